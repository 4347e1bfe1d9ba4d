"""Teaches an adapter's user prompt what the keyword model knows of users, before the adapter learns to draw it.

U-Net and copy are to read the prompt as if it named the user's wishes. What its text states would be then, the text
encoder says itself, so this is learnt without the U-Net, from two errors: of the whole text states, and of the tokens
that stand for the user, one for each kind of attribute but the category, from the state of the favoured value's phrase.
Learnt through the U-Net alone, who wants what is what takes longest (docs/runs.md). Profiles are put together anew in
every step, each feature from another merchant: the keyword model answers for any, and a market's merchants are too few.
Beyond the paper.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training import keywords
from training.data.prepare import shuffled
from training.family import FamilyPaths
from training.keywords import VALUES, WISHED_KINDS, WISHES, KeywordModel
from training.loop import Stateful, fit, warmup_cosine
from training.market.prompts import PHRASE_OF
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.feature_crossing import drop_features
from training.models.feature_schema import FeatureSchema
from training.models.frozen_unet import load_unet
from training.pretraining.train_tokenizer import encode


@dataclass(frozen=True)
class UserPromptRecipe:
    """How a user prompt is taught; minutes on one core."""

    steps: int = 1_500
    profiles: int = 1_024  # of a step, whose tokens are told
    prompts: int = 64  # of a step, for the first profiles, whose text states are told
    lr: float = 2e-3
    warmup_steps: int = 50
    embed_dim: int = 16  # width of one feature's embedding
    feature_dropout: float = 0.05
    max_grad_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Wishing:
    """Who could wish for what beside which prompt."""

    keywords: KeywordModel
    profiles: np.ndarray  # int64 (N, F), to take features from
    prompts: Sequence[str]  # to draw from

    def fingerprint(self) -> str:
        """Of everything."""
        parts = (self.keywords.weights.numpy().tobytes(), self.profiles.tobytes(), "\n".join(self.prompts).encode())
        return sha256(b"".join(parts)).hexdigest()[:16]


class UserPromptTraining:
    """A silent adapter's user encoder and user prompt."""

    def __init__(self, recipe: UserPromptRecipe, wishing: Wishing, family: FamilyPaths, unet: Path) -> None:
        self.recipe, self.wishing, self.schema = recipe, wishing, family.schema()
        self.tokenizer, self.text_encoder = family.tokenizer(), family.text_encoder()
        self.phrases = self._states_of_phrases()  # (len(VALUES), D)
        torch.manual_seed(recipe.seed)
        self.network = PersonalisedAdaptiveNetwork.from_unet(
            load_unet(unet), self.schema, recipe.embed_dim, n_user_tokens=len(WISHED_KINDS)
        )  # fmt: skip
        assert self.network.user_prompt is not None
        self.user_prompt = self.network.user_prompt
        self.parts = torch.nn.ModuleList([self.network.user_encoder, self.user_prompt])
        self.optimizer = torch.optim.AdamW(self.parts.parameters(), recipe.lr)
        self.schedule = warmup_cosine(self.optimizer, recipe.warmup_steps, recipe.steps)
        self.made_with = asdict(recipe) | {"wishing": wishing.fingerprint()}

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step on profiles and prompts that are drawn for it."""
        rng = np.random.default_rng((self.recipe.seed, n))
        features = recombined(self.wishing.profiles, self.schema, self.recipe.profiles, rng)
        prompts = [shuffled(prompt, rng) for prompt in rng.choice(self.wishing.prompts, self.recipe.prompts)]
        hiding = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + n)
        told = drop_features(torch.from_numpy(features), self.schema, self.recipe.feature_dropout, hiding)
        errors = self.errors(features, prompts, told)
        self.optimizer.zero_grad()
        (errors["text"] + errors["tokens"]).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parts.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        measured = {name: value.item() for name, value in errors.items()}
        return {"loss": measured["text"] + measured["tokens"]} | measured | {"grad_norm": norm.item()}

    def errors(self, features: np.ndarray, prompts: Sequence[str], told: Tensor | None = None) -> dict[str, Tensor]:
        """Of profiles (N, F), the first of which have a prompt each.

        Args:
            told: what the network hears of the profiles, (N, F), if not all.

        Returns:
            text: mean squared error of the text states; tokens: of the tokens; right: share of tokens that are nearest
            to the favoured value's phrase among its kind's.
        """
        wanted = torch.from_numpy(self.wishing.keywords.favourites(features))  # (N, n)
        u = self.network.represent(torch.from_numpy(features) if told is None else told)
        tokens = self.user_prompt.tokens_of(u)  # (N, n, D)
        n = len(prompts)
        text = self.network.prompt_for(self._states(prompts), u[:n])  # (n, 77, D)
        wished = self._states(keywords.wishes(self.wishing.keywords, prompts, features[:n], **WISHES, by_kind=True))
        with torch.no_grad():
            nearest = [
                min(of_kind) + torch.cdist(tokens[:, i], self.phrases[of_kind]).argmin(1)
                for i, of_kind in enumerate(_places())
            ]
        right = (torch.stack(nearest, dim=1) == wanted).float().mean()
        return {"text": F.mse_loss(text, wished), "tokens": F.mse_loss(tokens, self.phrases[wanted]), "right": right}

    @torch.no_grad()
    def _states(self, prompts: Sequence[str]) -> Tensor:  # (N, 77, D)
        ids = torch.from_numpy(encode(self.tokenizer, list(prompts)))
        states: Tensor = self.text_encoder(input_ids=ids).last_hidden_state
        return states

    def _states_of_phrases(self) -> Tensor:
        """At the last token of each value's phrase alone, (len(VALUES), D)."""
        phrases = [PHRASE_OF[value] for value in VALUES]
        ids = torch.from_numpy(encode(self.tokenizer, phrases))
        last = (ids == self.tokenizer.eos_token_id).int().argmax(1) - 1
        return self._states(phrases)[torch.arange(len(ids)), last]

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        return {"parts": self.parts, "optimizer": self.optimizer, "schedule": self.schedule}


def recombined(profiles: np.ndarray, schema: FeatureSchema, n: int, rng: np.random.Generator) -> np.ndarray:
    """Profiles (n, F) of which each feature is that of some profile of (N, F), each drawn by itself."""
    return np.concatenate([profiles[rng.integers(len(profiles), size=n)][:, at] for at in schema.slices], axis=1)


def _places() -> list[list[int]]:
    """For each token, where its kind's values are among VALUES."""
    return [[n for n, (of, _) in enumerate(VALUES) if of == kind] for kind in WISHED_KINDS]


def train_user_prompt(recipe: UserPromptRecipe, wishing: Wishing, family: FamilyPaths, out: Path, unet: Path) -> Path:
    """Teaches (or goes on teaching) a new adapter for this U-Net; returns its directory, out/adapter."""
    training = UserPromptTraining(recipe, wishing, family, unet)
    fit(out, recipe.steps, training.step, training.state(), made_with=training.made_with)
    training.network.save(out / "adapter")
    return out / "adapter"
