"""The user prompt: a prompt's text states as if its user's wishes stood in it. Beyond the paper.

For each kind of attribute the user favours one of its phrases, and a prompt that leaves the kind open gets it. What
makes wishes heard is that they are read together with the prompt: states of phrases read by themselves are not
understood (docs/runs.md). So the prompt's tokens are told from its states, the phrases' tokens take the last places,
where only padding stands (the cross-attention that reads the states does not ask where a token stands), and a frozen
copy of the text encoder reads all of it again. The prompt's own words keep their states, since none of them looks
ahead. Every choice is soft and has a gradient. Does not know what the phrases mean or how favours are learnt.
"""

import copy
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from training.models.errors import ModelError

TEXT_LENGTH = 77  # tokens of a prompt
FIRST = 2  # where the first phrase would stand: behind the mark of the start and one word
SHARPNESS = 30.0  # of the choice among a kind's phrases; favours are logits of a merchant's choice
HEADS = 4  # of the attention that looks for what a prompt asks
LEAST = 1e-6  # a hidden token keeps this share of an attention weight: its logarithm is finite in half precision
READER_KEYS = (
    "vocab_size", "bos_token_id", "eos_token_id", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_hidden_layers", "hidden_act", "layer_norm_eps",
)  # fmt: skip

Phrases = Sequence[tuple[str, Sequence[int]]]  # the kind and the tokens of each; a kind's one after the other


class UserPrompt(nn.Module):
    """Text states (G, 77, D) and u_gen (G, width) → what to add to the states, (G, 77, D); untaught: nothing.

    Args:
        width: d of u_gen.
        phrases: what users can favour.
        reader: the text encoder that the states come from.
    """

    order: Tensor
    ids: Tensor
    there: Tensor

    def __init__(self, width: int, phrases: Phrases, reader: CLIPTextModel) -> None:
        super().__init__()
        d, hidden = reader.config.hidden_size, 8 * width
        self.phrases = [(kind, list(tokens)) for kind, tokens in phrases]
        by_kind = [list(found) for _, found in groupby(self.phrases, key=lambda phrase: phrase[0])]
        self.sizes = [len(found) for found in by_kind]  # phrases of each kind
        self.widths = [max(len(tokens) for _, tokens in found) for found in by_kind]  # and its places
        if FIRST + sum(self.widths) > TEXT_LENGTH:
            raise ModelError(f"a phrase of every kind takes {sum(self.widths)} tokens; a prompt has {TEXT_LENGTH}")
        self.reader = copy.deepcopy(reader).requires_grad_(False)
        self.favour = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, len(phrases))
        )
        self.places = nn.Parameter(torch.zeros(TEXT_LENGTH, d))
        self.unread = nn.Sequential(
            nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, reader.config.vocab_size)
        )
        self.kinds = nn.Parameter(torch.randn(len(by_kind), d))
        how: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.beside = nn.TransformerDecoderLayer(d, HEADS, 4 * d, **how)
        self.opening = nn.Linear(d, 1)
        self.voice = nn.Parameter(torch.zeros(1))
        ids, there = _placed(self.phrases, self.sizes, self.widths)
        self.register_buffer("ids", ids, persistent=False)  # (V, n) the tokens of each phrase at its kind's places
        self.register_buffer("there", there, persistent=False)  # (V, n) 1 where it has one
        self.register_buffer("order", torch.ones(TEXT_LENGTH, TEXT_LENGTH).tril(), persistent=False)

    @property
    def config(self) -> dict[str, Any]:
        """Everything but width and weights; `blank_reader` makes the reader of it."""
        return {"phrases": self.phrases, "reader": {key: getattr(self.reader.config, key) for key in READER_KEYS}}

    def tokens_of(self, text: Tensor) -> Tensor:
        """The logits of the tokens that states were read from, (G, 77, vocabulary)."""
        tokens: Tensor = self.unread(text + self.places)
        return tokens

    def chosen(self, favours: Tensor) -> Tensor:
        """The share of each phrase in the choice among its kind's, (G, V)."""
        return torch.cat([each.softmax(1) for each in (SHARPNESS * favours).split(self.sizes, dim=1)], dim=1)

    def words_of(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen phrases' embeddings at their places, (G, n, D), and which of these are needed, (G, n)."""
        places = FIRST + torch.arange(self.ids.shape[1], device=self.ids.device).expand_as(self.ids)
        embeddings: Tensor = self.reader.embeddings(self.ids, places) * self.there.unsqueeze(2)  # (V, n, D)
        return torch.einsum("gv,vnd->gnd", chosen, embeddings), chosen @ self.there

    def openings(self, text: Tensor, words: Tensor) -> Tensor:
        """The logit of each kind being left open by a prompt, if the words beside it are these, (G, kinds)."""
        scaled = F.layer_norm(words, words.shape[-1:])
        said = torch.stack([of_kind.mean(1) for of_kind in scaled.split(self.widths, dim=1)], dim=1)
        found: Tensor = self.opening(self.beside(self.kinds + said, text))
        return found[..., 0]

    def read(self, embeddings: Tensor, is_word: Tensor) -> Tensor:
        """The text encoder's states (G, 77, D) of embeddings (G, 77, D); which are words' is said by (G, 77) in [0, 1].

        A word sees the words before it; padding, wherever it stands, sees all words and the padding before it.
        """
        padding, word, order = (1 - is_word).unsqueeze(2), is_word.unsqueeze(1), self.order
        seen = word * (order + (1 - order) * padding) + (1 - word) * padding * order  # (G, 77, 77)
        bias = seen.clamp_min(LEAST).log().unsqueeze(1)  # for every head
        h = embeddings
        for layer in self.reader.encoder.layers:
            h = layer(h, bias)
        states: Tensor = self.reader.final_layer_norm(h)
        return states

    def forward(self, text: Tensor, u: Tensor) -> Tensor:
        tokens = self.tokens_of(text).softmax(2)
        is_word = 1 - tokens[..., self.reader.config.eos_token_id]  # padding is more of the mark of the end
        at = self.reader.embeddings.position_embedding.weight
        embeddings = tokens @ self.reader.embeddings.token_embedding.weight + at
        words, needed = self.words_of(self.chosen(self.favour(u)))
        before = (TEXT_LENGTH - words.shape[1], 0)
        open_to = self.openings(text, words).sigmoid().repeat_interleave(torch.tensor(self.widths), dim=1)
        taken = F.pad(open_to * needed, before) * (1 - is_word)  # (G, 77)
        placed = torch.lerp(embeddings, F.pad(words, (0, 0, *before)), taken.unsqueeze(2))
        read = self.read(placed, is_word + taken)
        return self.voice * (1 - is_word).unsqueeze(2) * (read - text)


def blank_reader(config: dict[str, Any]) -> CLIPTextModel:
    """A text encoder of the shape that a `config` tells under "reader", to load weights into."""
    return CLIPTextModel(CLIPTextConfig(**config))


def _placed(phrases: Phrases, sizes: Sequence[int], widths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Tokens (V, n) and where they are, (V, n): every kind has places of its own."""
    ids = torch.zeros(len(phrases), sum(widths), dtype=torch.long)
    starts = torch.tensor([0, *widths]).cumsum(0)[:-1].repeat_interleave(torch.tensor(sizes)).tolist()
    for row, start, (_, tokens) in zip(ids, starts, phrases, strict=True):
        row[start : start + len(tokens)] = torch.tensor(tokens)
    there = torch.zeros(ids.shape)
    for row, start, (_, tokens) in zip(there, starts, phrases, strict=True):
        row[start : start + len(tokens)] = 1.0
    return ids, there
