"""What a generator is asked while it is distilled: prompts of groups, for their merchants, as services would ask it.

Prompts are read with the merchant's wishes. Some have a negative prompt, another guidance scale or adapter scale, or a
merchant of whom nothing is known, so that a student learns what these mean. Knows groups' prompts and profiles, a
family's texts and wishes; nothing of what is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contract.limits import MAX_ADAPTER_SCALE
from contract.wishes import wishes, with_wishes
from training.data.groups import GroupError, GroupTensors
from training.data.table import is_table, read_table
from training.data.text_states import TextStates
from training.generator.distil_recipes import DistilRecipe
from training.models.family import FamilyPaths
from training.models.tokens import encode
from training.wishes.preferences import PreferenceWeights

NEGATIVES = 3  # most phrases in a negative prompt
MOST_GUIDANCE = 2.0  # times the family's guidance scale


@dataclass(frozen=True)
class Asker:
    """N groups' prompts, and their merchants."""

    prompts: Sequence[str]  # N, as written
    features: np.ndarray  # int64 (N, F)

    @classmethod
    def of_groups(cls, groups: GroupTensors) -> "Asker":
        """Those of groups.

        Raises:
            GroupError: the groups have no prompts as they were written.
        """
        if groups.prompts is None:
            raise GroupError("wishes are added to prompts as they were written; these groups have tokens only")
        return cls([str(prompt) for prompt in groups.prompts], np.asarray(groups.features))

    @classmethod
    def of_data(cls, data: Path, family: FamilyPaths) -> "Asker":
        """Those of a table, no picture of which is read, or of a directory of arrays.

        Raises:
            GroupError: there are none.
            TableError: not a table, or one that is damaged.
        """
        if not is_table(data):
            return cls.of_groups(GroupTensors.load(data))
        schema, told = family.schema(), list(read_table(data, images=False))
        if not told:
            raise GroupError(f"{data} has no groups")
        return cls([group.prompt for group in told], np.array([schema.encode(group.features).slots for group in told]))


@dataclass(frozen=True)
class Asked:
    """B requests as the denoiser gets them."""

    text: Tensor  # (B, 77, D) with wishes
    negative_text: Tensor  # (B, 77, D)
    guidance: Tensor  # (B,)
    features: Tensor  # int64 (B, F)
    adapter_scale: Tensor  # (B,)
    noise: Tensor  # (B, C, S, S)

    def to(self, device: torch.device) -> "Asked":
        return Asked(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class Asking:
    """Draws requests; the same number draws the same."""

    def __init__(self, asker: Asker, family: FamilyPaths, recipe: DistilRecipe, shape: tuple[int, ...]) -> None:
        """`shape` is that of latents, (C, S, S)."""
        self.asker, self.recipe, self.shape = asker, recipe, shape
        self.defaults, self.vocabulary = family.request_defaults(), family.vocabulary()
        self.tokenizer, self.text_encoder = family.tokenizer(), family.text_encoder()
        self.phrases = [phrase for _, phrase in self.vocabulary.phrases]
        self.preferences = None
        if family.preferences.exists():
            self.preferences = PreferenceWeights.load(family.preferences, family.schema(), self.vocabulary)
        self.no_text = self.states([""])  # (1, 77, D)

    def states(self, prompts: Sequence[str]) -> Tensor:
        """Text states (N, 77, D); each distinct prompt is read once."""
        distinct = list(dict.fromkeys(prompts))
        ids, rows = encode(self.tokenizer, distinct), {prompt: row for row, prompt in enumerate(distinct)}
        states = TextStates(self.text_encoder, ids[:, None], torch.device("cpu")).encode(torch.from_numpy(ids))
        return states[[rows[prompt] for prompt in prompts]]

    def draw(self, number: int, count: int) -> Asked:
        """The requests of this number."""
        rng = np.random.default_rng((self.recipe.seed, 41, number))
        which = rng.integers(len(self.asker.prompts), size=count)
        prompts, features = [self.asker.prompts[n] for n in which], self.asker.features[which]
        features = np.where(rng.random((count, 1)) < self.recipe.unknown, 0, features)
        scale = np.full(count, self.defaults.adapter_scale)
        guidance = np.full(count, self.defaults.guidance_scale)
        changed = rng.random((3, count)) < self.recipe.varied
        scale[changed[0]] = MAX_ADAPTER_SCALE * rng.random(changed[0].sum())
        guidance[changed[1]] = 1 + (MOST_GUIDANCE * guidance[changed[1]] - 1) * rng.random(changed[1].sum())
        negative = [self._negative(rng) if there else "" for there in changed[2]]
        adapter_scale = torch.from_numpy(scale).float()
        plain = self.states(prompts)
        wished = self.states(self._with_wishes(prompts, features, rng))
        return Asked(
            text=plain + adapter_scale.view(-1, 1, 1) * (wished - plain),
            negative_text=self.states(negative),
            guidance=torch.from_numpy(guidance).float(),
            features=torch.from_numpy(features),
            adapter_scale=adapter_scale,
            noise=torch.from_numpy(rng.standard_normal((count, *self.shape), np.float32)),
        )

    def _negative(self, rng: np.random.Generator) -> str:
        return ",".join(rng.choice(self.phrases, rng.integers(1, NEGATIVES + 1)))

    def _with_wishes(self, prompts: Sequence[str], features: np.ndarray, rng: np.random.Generator) -> list[str]:
        if self.preferences is None:
            return list(prompts)
        favours = self.preferences.of(features)
        noise = rng.gumbel(size=favours.shape)
        found = zip(prompts, favours, noise, strict=True)
        return [with_wishes(prompt, wishes(self.vocabulary, prompt, favour, own)) for prompt, favour, own in found]
