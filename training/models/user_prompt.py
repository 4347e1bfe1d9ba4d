"""The user prompt: a prompt's text states as if its user's wishes stood in it. Beyond the paper.

For each kind of attribute the user favours one of its phrases, and a prompt that leaves the kind open gets it. What
makes wishes heard is that they are read together with the prompt: states of phrases read by themselves are not
understood (docs/runs.md). So the prompt's tokens are told from its states, the phrases' tokens take the last places,
where only padding stands (the cross-attention that reads the states does not ask where a token stands), and a frozen
copy of the text encoder reads it twice, with the phrases and without. The difference is what the user adds: nothing
where nothing is open, and nothing to the prompt's own words, since none of them looks ahead. Choices are soft and have
gradients; with noise beside the favours every candidate of a group gets a choice of its own, which differs from the
others' where the user favours nothing clearly. Does not know what the phrases mean or how favours are learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from training.common.errors import ModelError

TEXT_LENGTH = 77  # tokens of a prompt
FIRST = 2  # where the first phrase would stand: behind the mark of the start and one word
SHARPNESS = 30.0  # of the choice among a kind's phrases; favours are logits of a merchant's choice
VARIETY = 0.1  # of choices: noise times this disturbs favours; a merchant's own choice has 1 (docs/runs.md)
LEAST_FAVOUR = 0.2  # who favours nothing by as much is a user of whom nothing is known: nothing is said
HEADS = 4  # of the attention that looks for what a prompt asks
LEAST = 1e-6  # a hidden token keeps this share of an attention weight: its logarithm is finite in half precision
READER_KEYS = (
    "vocab_size", "bos_token_id", "eos_token_id", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_hidden_layers", "hidden_act", "layer_norm_eps",
)  # fmt: skip


@dataclass(frozen=True)
class Language:
    """What users can favour, in the tokens of a text encoder."""

    phrases: Sequence[tuple[str, Sequence[int]]]  # the kind and the tokens of each; a kind's one after the other
    end: int  # the token that ends a prompt and pads it: the tokenizer's, for configurations are known to err
    reader: CLIPTextModel  # reads the states that a U-Net was trained on; a user prompt freezes it

    def to_json(self) -> dict[str, Any]:
        """All but the reader's weights."""
        phrases = [[kind, list(tokens)] for kind, tokens in self.phrases]
        return {"phrases": phrases, "end": self.end, "reader": {k: getattr(self.reader.config, k) for k in READER_KEYS}}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Language":
        """With a blank reader, to load weights into."""
        return cls(saved["phrases"], saved["end"], CLIPTextModel(CLIPTextConfig(**saved["reader"])))


class UserPrompt(nn.Module):
    """Text states (G, 77, D) and u_gen (G, width) → what to add to the states, (G, 77, D); untaught: nothing.

    Of V phrases. Choices may get standard Gumbel noise, (G, V); without, everybody gets the favourites.
    """

    order: Tensor
    ids: Tensor
    there: Tensor
    kind_of_place: Tensor
    room_before: Tensor

    def __init__(self, width: int, language: Language) -> None:
        super().__init__()
        self.language = language
        d, hidden, vocabulary = language.reader.config.hidden_size, 8 * width, language.reader.config.vocab_size
        by_kind = [list(found) for _, found in groupby(language.phrases, key=lambda phrase: phrase[0])]
        self.sizes = [len(found) for found in by_kind]  # phrases of each kind
        self.widths = [max(len(tokens) for _, tokens in found) for found in by_kind]  # and its places, n in all
        if FIRST + sum(self.widths) > TEXT_LENGTH:
            raise ModelError(f"a phrase of every kind takes {sum(self.widths)} tokens; a prompt has {TEXT_LENGTH}")
        self.reader = language.reader.requires_grad_(False)
        self.favour = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, len(language.phrases)),
        )  # fmt: skip
        self.places = nn.Parameter(torch.zeros(TEXT_LENGTH, d))
        self.unread = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, vocabulary))
        self.kinds = nn.Parameter(torch.randn(len(by_kind), d))
        how: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.beside = nn.TransformerDecoderLayer(d, HEADS, 4 * d, **how)
        self.opening = nn.Linear(d, 1)
        self.voice = nn.Parameter(torch.zeros(1))
        starts = torch.tensor([0, *self.widths]).cumsum(0)[:-1]
        ids, there = torch.zeros(2, len(language.phrases), sum(self.widths), dtype=torch.long)
        starts_of = starts.repeat_interleave(torch.tensor(self.sizes)).tolist()
        for row, (start, (_, tokens)) in enumerate(zip(starts_of, language.phrases, strict=True)):
            ids[row, start : start + len(tokens)] = torch.tensor(tokens)
            there[row, start : start + len(tokens)] = 1
        constants = {
            "ids": ids,  # (V, n) the tokens of each phrase at its kind's places
            "there": there.float(),  # (V, n) 1 where it has one
            "kind_of_place": torch.arange(len(by_kind)).repeat_interleave(torch.tensor(self.widths)),  # (n,)
            "room_before": TEXT_LENGTH - sum(self.widths) + starts - 1,  # (kinds,) free, if a kind's places are
            "order": torch.ones(TEXT_LENGTH, TEXT_LENGTH).tril(),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def tokens_of(self, text: Tensor) -> Tensor:
        """The logits of the tokens that states were read from, (G, 77, vocabulary)."""
        tokens: Tensor = self.unread(text + self.places)
        return tokens

    def chosen(self, favours: Tensor) -> Tensor:
        """The share of each phrase in the choice among its kind's, (G, V)."""
        return torch.cat([each.softmax(1) for each in (SHARPNESS * favours).split(self.sizes, dim=1)], dim=1)

    def known(self, favours: Tensor) -> Tensor:
        """Whether anything is known of users, (G, 1) of 0 and 1."""
        return (favours.amax(1, keepdim=True) >= LEAST_FAVOUR).to(favours.dtype)

    def words_of(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen phrases' embeddings at their places, (G, n, D), and which of these are needed, (G, n)."""
        at = FIRST + torch.arange(self.ids.shape[1], device=self.ids.device).expand_as(self.ids)
        embeddings: Tensor = self.reader.embeddings(self.ids, at) * self.there.unsqueeze(2)  # (V, n, D)
        return torch.einsum("gv,vnd->gnd", chosen, embeddings), chosen @ self.there

    def openings(self, text: Tensor, words: Tensor) -> Tensor:
        """The logit of each kind being left open by a prompt, if the words beside it are these, (G, kinds)."""
        scaled = F.layer_norm(words, words.shape[-1:])
        said = torch.stack([of_kind.mean(1) for of_kind in scaled.split(self.widths, dim=1)], dim=1)
        found: Tensor = self.opening(self.beside(self.kinds + said, text))
        return found[..., 0]

    def read(self, embeddings: Tensor, is_word: Tensor) -> Tensor:
        """The text encoder's states (G, 77, D) of embeddings (G, 77, D); which are words' says (G, 77) in [0, 1].

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

    def said_by(self, embeddings: Tensor, is_word: Tensor, chosen: Tensor, kinds: Tensor) -> Tensor:
        """What phrases add to the states of a prompt, (G, 77, D).

        Args:
            embeddings, is_word: of the prompt, (G, 77, D) and (G, 77).
            chosen: share of each phrase among its kind's, (G, V).
            kinds: which are said, (G, kinds) in [0, 1]; one for whose places the prompt has no room is not.
        """
        words, needed = self.words_of(chosen)
        said = (kinds * (1 - is_word)[:, self.room_before])[:, self.kind_of_place] * needed  # (G, n)
        before = (TEXT_LENGTH - words.shape[1], 0)
        taken = F.pad(said, before) * (1 - is_word)
        with_words = F.pad(words, (0, 0, *before)).to(embeddings.dtype)
        placed = embeddings + taken.unsqueeze(2) * (with_words - embeddings)
        return self.read(placed, is_word + taken) - self.read(embeddings, is_word)

    def forward(self, text: Tensor, u: Tensor, choice_noise: Tensor | None = None) -> Tensor:
        tokens = self.tokens_of(text).softmax(2)
        is_word = 1 - tokens[..., self.language.end]
        position = self.reader.embeddings.position_embedding.weight
        embeddings = tokens @ self.reader.embeddings.token_embedding.weight + position
        favours = self.favour(u)
        chosen = self.chosen(favours if choice_noise is None else favours + VARIETY * choice_noise)
        open_to = self.openings(text, self.words_of(chosen)[0]).sigmoid()
        return self.voice * self.said_by(embeddings, is_word, chosen, open_to * self.known(favours))
