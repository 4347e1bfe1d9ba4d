"""Teaches an adapter's user prompt what the keyword model knows of users.

U-Net and copy are to read the prompt as if it named the user's wishes: for each kind of attribute that it leaves open,
the phrase that the keyword model favours. Nothing of that needs the U-Net; each part has an answer of its own:

    favours    how much each phrase is favoured, from the profile
    unread     the tokens that a prompt's states were read from
    openings   which kinds the prompt leaves open

What the text encoder makes of all of it needs no training.
Learnt through the U-Net alone, who wants what is what takes longest (docs/runs.md). Profiles are put together anew in
every step, each feature from another merchant: the keyword model answers for any, and a market's merchants are too few;
some are blank. Some prompts are several in one, some have lost a phrase, some texts are tokens at random, so that any
prompt can be unread. Beyond the paper.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from contract.feature_schema import FeatureSchema
from contract.vocabulary import Vocabulary
from lab.pretraining.train_tokenizer import encode
from training.common.errors import ModelError
from training.common.loop import Stateful, fit, warmup_cosine
from training.common.storage import fingerprint
from training.common.workers import Workers
from training.data.prepare import shuffled
from training.generator.recipes import MOST_SEED
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.feature_crossing import drop_features
from training.models.frozen_unet import load_unet
from training.models.user_prompt import TEXT_LENGTH, Language
from training.wishes.preferences import KeywordModel, wish


@dataclass(frozen=True)
class UserPromptRecipe:
    """How a user prompt is taught; minutes on one core."""

    steps: int = 1_000
    profiles: int = 512  # of a step, whose favours are told
    prompts: int = 64  # of a step, for the first profiles
    joined: float = 0.25  # share of prompts that are several in one
    shortened: float = 0.1  # share that has lost a phrase, perhaps its only one, or its category
    any_texts: int = 16  # of a step, tokens at random
    blank: float = 0.05  # share of profiles that are
    lr: float = 5e-3
    unread_lr: float = 3e-2  # for what tells tokens from states
    warmup_steps: int = 50
    embed_dim: int = 16  # width of one feature's embedding
    feature_dropout: float = 0.05
    max_grad_norm: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in {"steps": (1, 10**9), "embed_dim": (1, 1_024), "seed": (0, MOST_SEED)}.items():
            if not least <= getattr(self, name) <= most:
                raise ModelError(f"{name} is {getattr(self, name)}, not from {least} to {most}")
        if not 0 < self.lr < float("inf"):
            raise ModelError(f"lr is {self.lr}, a positive number is needed")


@dataclass(frozen=True)
class Wishing:
    """Who could wish for what beside which prompt."""

    keywords: KeywordModel
    schema: FeatureSchema  # of profiles
    profiles: np.ndarray  # int64 (N, F), to take features from
    prompts: Sequence[str]  # to draw from

    def fingerprints(self) -> dict[str, str]:
        """Of everything, by name."""
        parts = {
            "phrases": repr(self.keywords.vocabulary).encode(),
            "picks": self.keywords.weights.numpy().tobytes(),
            "profiles": repr(self.schema).encode() + self.profiles.tobytes(),
            "prompts": "\n".join(self.prompts).encode(),
        }
        return {name: sha256(part).hexdigest()[:16] for name, part in parts.items()}

    def fingerprint(self) -> str:
        """Of everything in one."""
        return sha256(" ".join(self.fingerprints().values()).encode()).hexdigest()[:16]


def language_of(family: FamilyPaths, vocabulary: Vocabulary) -> Language:
    """Of every phrase that a prompt could be wished, all but categories, each with the comma before it."""
    tokenizer, wished = family.tokenizer(), vocabulary.phrases[len(vocabulary.category.phrases) :]
    tokens = [(kind, tokenizer("," + phrase, add_special_tokens=False)["input_ids"]) for kind, phrase in wished]
    return Language(tokens, tokenizer.eos_token_id, family.text_encoder())


class UserPromptTraining:
    """A silent adapter's user encoder and user prompt."""

    def __init__(self, recipe: UserPromptRecipe, wishing: Wishing, family: FamilyPaths, unet: Path) -> None:
        self.recipe, self.wishing, self.schema = recipe, wishing, wishing.schema
        self.tokenizer, self.vocabulary = family.tokenizer(), wishing.keywords.vocabulary
        language = language_of(family, self.vocabulary)
        self.text_encoder, self.device = language.reader, Workers().device
        self.ordinary = np.setdiff1d(np.arange(len(self.tokenizer)), self.tokenizer.all_special_ids)
        torch.manual_seed(recipe.seed)
        frozen = load_unet(unet)
        network = PersonalisedAdaptiveNetwork.from_unet(frozen, self.schema, recipe.embed_dim, language=language)
        self.network = network.to(self.device)
        assert self.network.user_prompt is not None
        self.user_prompt = self.network.user_prompt
        torch.nn.init.ones_(self.user_prompt.voice)
        self.parts = torch.nn.ModuleList([self.network.user_encoder, self.user_prompt])
        unread = [self.user_prompt.places, *self.user_prompt.unread.parameters()]
        apart = {id(parameter) for parameter in unread}
        others = [p for p in self.parts.parameters() if p.requires_grad and id(p) not in apart]
        rates = [{"params": others}, {"params": unread, "lr": recipe.unread_lr}]
        self.optimizer = torch.optim.AdamW(rates, recipe.lr)
        self.schedule = warmup_cosine(self.optimizer, recipe.warmup_steps, recipe.steps)
        weights = {"unet": fingerprint(frozen), "text_encoder": fingerprint(self.text_encoder)}
        self.made_with = asdict(recipe) | weights | wishing.fingerprints()

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step on profiles and prompts that are drawn for it."""
        rng = np.random.default_rng((self.recipe.seed, n))
        features = recombined(self.wishing.profiles, self.schema, self.recipe.profiles, rng)
        features[rng.random(len(features)) < self.recipe.blank] = 0  # of users about whom nothing is known
        prompts = [self._prompt(rng) for _ in range(self.recipe.prompts)]
        hiding = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + n)
        told = drop_features(torch.from_numpy(features), self.schema, self.recipe.feature_dropout, hiding)
        errors = self.errors(features, prompts, told) | {"any": self._unread_error(self._any_text(rng))}
        self.optimizer.zero_grad()
        loss = torch.stack(list(errors.values())).sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parts.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        measured = {name: value.item() for name, value in errors.items()}
        return {"loss": loss.item()} | measured | {"grad_norm": norm.item()}

    def errors(self, features: np.ndarray, prompts: Sequence[str], told: Tensor | None = None) -> dict[str, Tensor]:
        """Of profiles (N, F), the first of which have a prompt each.

        Args:
            told: what the network hears of the profiles, (N, F), if not all.

        Returns:
            favours: mean squared error in their variances; unread, openings: cross-entropies.
        """
        wanted = self._favours(features)
        favours = self.user_prompt.favour(self.network.represent(self._codes(features if told is None else told)))
        n, ids = len(prompts), self._ids(prompts)
        words, _ = self.user_prompt.words_of(self._best(wanted[:n]))
        openings = self.user_prompt.openings(self._states(ids), words)
        return {
            "favours": F.mse_loss(favours, wanted) / wanted.var(),
            "unread": self._unread_error(ids),
            "openings": F.binary_cross_entropy_with_logits(openings, self._open(prompts, features[:n]).float()),
        }

    @torch.no_grad()
    def measure(self, features: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
        """Of profiles (N, F) with a prompt each.

        Returns:
            text: mean squared error of the text states; silent: that of the prompt's own; right: share of kinds whose
            most favoured phrase is the keyword model's.
        """
        wanted, u = self._favours(features), self.network.represent(self._codes(features))
        ids = self._ids(prompts)
        text, wished = self._states(ids), self._wished(ids, wanted, self._open(prompts, features))
        right = (self._best(self.user_prompt.favour(u)) * self._best(wanted)).sum(1) / len(self.user_prompt.sizes)
        return {
            "text": F.mse_loss(text + self.user_prompt(text, u), wished).item(),
            "silent": F.mse_loss(text, wished).item(),
            "right": right.mean().item(),
        }

    def on_log(self, n: int) -> dict[str, float]:
        """Measured on profiles and prompts that are drawn once and never change."""
        rng = np.random.default_rng((self.recipe.seed, self.recipe.steps))
        prompts = [shuffled(self._any_prompt(rng), rng) for _ in range(64)]
        return self.measure(recombined(self.wishing.profiles, self.schema, 64, rng), prompts)

    def _favours(self, features: np.ndarray) -> Tensor:
        """What the keyword model says of profiles (N, F), (N, V)."""
        favours = self.wishing.keywords.favours(features)[:, len(self.vocabulary.category.phrases) :]
        return torch.from_numpy(favours).float().to(self.device)

    def _best(self, favours: Tensor) -> Tensor:
        """1 at the most favoured phrase of each kind, (N, V)."""
        kinds = favours.detach().split(self.user_prompt.sizes, dim=1)
        return torch.cat([F.one_hot(kind.argmax(1), kind.shape[1]) for kind in kinds], dim=1).float()

    def _unread_error(self, ids: Tensor) -> Tensor:
        """Cross-entropy of tokens (N, 77), told from their states."""
        return F.cross_entropy(self.user_prompt.tokens_of(self._states(ids)).flatten(0, 1), ids.flatten())

    @torch.no_grad()
    def _wished(self, ids: Tensor, favours: Tensor, open_to: Tensor) -> Tensor:
        """The states (N, 77, D) of prompts (N, 77) with what is favoured of kinds that are open, (N, kinds)."""
        is_word = ((ids == self.tokenizer.eos_token_id).cumsum(1) == 0).float()
        kinds = open_to * self.user_prompt.known(favours)
        said = self.user_prompt.said_by(self.text_encoder.embeddings(ids), is_word, self._best(favours), kinds)
        return self._states(ids) + said

    def _open(self, prompts: Sequence[str], features: np.ndarray) -> Tensor:
        """Which kinds each prompt leaves to its user, (N, kinds)."""
        wished = [
            self.vocabulary.asked(",".join(wish(self.vocabulary, prompt, favours)))
            for prompt, favours in zip(prompts, self.wishing.keywords.favours(features), strict=True)
        ]
        is_open = [[kind.name in said for kind in self.vocabulary.kinds[1:]] for said in wished]
        return torch.tensor(is_open, device=self.device)

    def _prompt(self, rng: np.random.Generator) -> str:
        """One of those to draw from, its phrases in any order; or longer, or shorter."""
        kind = rng.random()
        many = int(rng.integers(2, 6)) if kind < self.recipe.joined else 1
        prompt = shuffled(",".join(self._any_prompt(rng) for _ in range(many)), rng)
        shorter = self.recipe.joined <= kind < self.recipe.joined + self.recipe.shortened
        return ",".join(prompt.split(",")[1:]) if shorter else prompt

    def _any_prompt(self, rng: np.random.Generator) -> str:
        return self.wishing.prompts[int(rng.integers(len(self.wishing.prompts)))]

    def _any_text(self, rng: np.random.Generator) -> Tensor:
        """Prompts of any length and any tokens, (any_texts, 77)."""
        blank = self._ids([""]).repeat(self.recipe.any_texts, 1)
        for row in blank:
            length = int(rng.integers(1, TEXT_LENGTH - 1))
            row[1 : 1 + length] = self._codes(rng.choice(self.ordinary, length))
        return blank

    def _ids(self, prompts: Sequence[str]) -> Tensor:  # (N, 77)
        return self._codes(encode(self.tokenizer, list(prompts)))

    def _codes(self, codes: np.ndarray | Tensor) -> Tensor:
        return torch.as_tensor(codes).to(self.device)

    @torch.no_grad()
    def _states(self, ids: Tensor) -> Tensor:  # (N, 77, D)
        states: Tensor = self.text_encoder(input_ids=ids).last_hidden_state
        return states

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        return {"parts": self.parts, "optimizer": self.optimizer, "schedule": self.schedule}


def recombined(profiles: np.ndarray, schema: FeatureSchema, n: int, rng: np.random.Generator) -> np.ndarray:
    """Profiles (n, F) of which each feature is that of some profile of (N, F), each drawn by itself."""
    return np.concatenate([profiles[rng.integers(len(profiles), size=n)][:, at] for at in schema.slices], axis=1)


def train_user_prompt(recipe: UserPromptRecipe, wishing: Wishing, family: FamilyPaths, out: Path, unet: Path) -> Path:
    """Teaches (or goes on teaching) a new adapter for this U-Net; returns its directory, out/adapter."""
    training = UserPromptTraining(recipe, wishing, family, unet)
    fit(out, recipe.steps, training.step, training.state(), on_log=training.on_log, made_with=training.made_with)
    training.network.save(out / "adapter")
    return out / "adapter"
