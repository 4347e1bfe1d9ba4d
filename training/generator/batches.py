"""From groups on disk to the batches that a generator trains on: latents, text states, profiles, noise.

All random numbers of step n's batch are drawn for the whole batch from (seed, n) alone, as a plan; any process can
then compute any part of the plan. Knows groups and recipes, nothing about models or objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from contract.wishes import wishes, with_wishes
from training.common.errors import TopologyError
from training.common.noise import draw_levels
from training.data.groups import EpochSampler, GroupError, GroupTensors
from training.data.text_states import TextStates
from training.generator.recipes import GeneratorRecipe
from training.generator.step import Batch
from training.models.family import FamilyPaths
from training.models.feature_crossing import drop_features
from training.models.tokens import encode
from training.wishes.preferences import PreferenceWeights


@dataclass(frozen=True)
class Plan:
    """The groups of a batch and its random numbers."""

    rows: np.ndarray  # (B,) of the groups
    features: Tensor  # (B, F) with some dropped
    wordings: np.ndarray  # (B,) which wording of the prompt
    unprompted: Tensor  # bool (B,) the groups whose prompt is left out
    t: Tensor  # (B,)
    eps: Tensor  # (B, C, S, S)
    images: Tensor | None  # (B, K') which of a group's images take part; None: all
    wished: tuple[str | None, ...] = ()  # each prompt with the merchant's wishes; None: it is read as it is

    def __len__(self) -> int:
        return len(self.rows)


class GeneratorBatches:
    """Batches of these groups for a recipe."""

    def __init__(
        self, groups: GroupTensors, family: FamilyPaths, recipe: GeneratorRecipe, device: torch.device
    ) -> None:
        """Batches of the groups that `recipe` can learn from.

        Raises:
            GroupError: no latents, or some that are not finite; nothing to learn from; another encoder's tokens.
        """
        if groups.latents is None:
            raise GroupError("the generator trains on latents; these groups have none")
        self.groups, self.recipe, self.device, self.latents = groups, recipe, device, groups.latents
        check_finite(groups)
        self.rows = groups.rows_with(negatives=recipe.needs_reference)
        self.sampler = EpochSampler(self.rows, recipe.groups_per_batch, recipe.seed, groups.weights_of(self.rows))
        self.text = TextStates(family.text_encoder(), groups.input_ids, device)
        self.tokenizer = family.tokenizer()
        self.no_text = self._states([""])  # (1, 77, D)
        self.wishing = Wishing.of(family, groups) if recipe.wished else None

    def plan(self, n: int) -> Plan:
        """The plan of step n."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + n)
        rows = np.repeat(self.sampler.batch(n), recipe.noise_levels)
        whose = rows
        if recipe.objective == "reward":  # any merchant's, whatever they were shown
            whose = torch.randint(len(self.groups), (len(rows),), generator=generator).numpy()
        features = torch.from_numpy(self.groups.features[whose])
        dropped = drop_features(features, self.groups.schema, recipe.feature_dropout, generator)
        plan = self._plan(rows, dropped, generator, self._which_images(rows, generator))
        if self.wishing is None:
            return plan
        chosen = torch.rand(len(rows), generator=generator) < recipe.wished
        return replace(plan, wished=self.wishing.prompts(rows, dropped, chosen, generator))

    def fixed(self, size: int = 32) -> list[Batch]:
        """All usable groups once, every image, with fixed noise, in batches: the held-out measurement."""
        generator = torch.Generator().manual_seed(7)
        parts = np.array_split(self.rows, -(-len(self.rows) // size))
        plans = [self._plan(rows, torch.from_numpy(self.groups.features[rows]), generator, None) for rows in parts]
        return [self.batch(plan, np.arange(len(plan))) for plan in plans]

    def batch(self, plan: Plan, part: np.ndarray) -> Batch:
        """The batch for these places of the plan."""
        rows, at = plan.rows[part], torch.from_numpy(part)
        z_0, selected = torch.from_numpy(self.latents[rows]).float(), torch.from_numpy(self.groups.selected[rows])
        others = torch.from_numpy(self.groups.there[rows]) & ~selected
        if plan.images is not None:
            every, some = torch.arange(len(rows)).unsqueeze(1), plan.images[at]
            z_0, selected, others = z_0[every, some], selected[every, some], others[every, some]
        unprompted = plan.unprompted[at].view(-1, 1, 1).to(self.device)
        text = torch.where(unprompted, self.no_text, self.text.of(rows, plan.wordings[part]))
        self._add_wishes(text, [plan.wished[n] for n in part] if plan.wished else [])
        return Batch(z_0, text, plan.features[at], selected, others, plan.t[at], plan.eps[at]).to(self.device)

    def _plan(self, rows: np.ndarray, features: Tensor, generator: torch.Generator, images: Tensor | None) -> Plan:
        t = draw_levels(self.recipe.levels, len(rows), generator)
        eps = torch.randn((len(rows), *self.latents.shape[2:]), generator=generator)
        wordings = torch.randint(self.groups.input_ids.shape[1], (len(rows),), generator=generator).numpy()
        unprompted = torch.rand(len(rows), generator=generator) < self.recipe.prompt_dropout
        return Plan(rows, features, wordings, unprompted, t, eps, images)

    def _add_wishes(self, text: Tensor, wished: Sequence[str | None]) -> None:
        """Changes text states (B, 77, D) to those of the prompts with wishes, weighed as in drawing."""
        if self.wishing is not None and (places := [n for n, prompt in enumerate(wished) if prompt is not None]):
            states = self._states([prompt for prompt in wished if prompt is not None])
            text[places] += self.wishing.scale * (states - text[places])

    def _states(self, prompts: Sequence[str]) -> Tensor:
        """Text states (N, 77, D)."""
        return self.text.encode(torch.from_numpy(encode(self.tokenizer, prompts, self.groups.input_ids.shape[2])))

    def _which_images(self, rows: np.ndarray, generator: torch.Generator) -> Tensor | None:
        """One picked image for Eq. 1, any one for the reward's gradient, a pair for Diffusion-DPO, all for a group."""
        if self.recipe.objective == "reward":
            there = torch.from_numpy(self.groups.there[rows]).float()
            return torch.multinomial(there, 1, generator=generator)
        if self.recipe.objective not in ("sft", "dpo"):
            return None
        selected = torch.from_numpy(self.groups.selected[rows])
        picks = torch.multinomial(selected.float(), 1, generator=generator)  # (B, 1)
        if self.recipe.objective != "dpo":
            return picks
        others = torch.from_numpy(self.groups.there[rows]) & ~selected
        return torch.cat([picks, torch.multinomial(others.float(), 1, generator=generator)], dim=1)


@dataclass(frozen=True)
class Wishing:
    """What a family adds to prompts, for groups whose prompts are known as they were written."""

    preferences: PreferenceWeights
    written: np.ndarray  # str (N,), the groups' prompts
    scale: float  # the adapter scale of a request that gives none

    @classmethod
    def of(cls, family: FamilyPaths, groups: GroupTensors) -> "Wishing":
        """The family's.

        Raises:
            GroupError: the groups have no prompts as they were written.
            WeightsError: the family has no preference weights, or some of another schema or vocabulary.
        """
        if groups.prompts is None:
            raise GroupError("wishes are added to prompts as they were written; these groups have tokens only")
        preferences = PreferenceWeights.load(family.preferences, groups.schema, family.vocabulary())
        return cls(preferences, groups.prompts, family.request_defaults().adapter_scale)

    def prompts(
        self, rows: np.ndarray, features: Tensor, chosen: Tensor, generator: torch.Generator
    ) -> tuple[str | None, ...]:
        """The prompts of these groups with the wishes of merchants (B, F), where chosen, bool (B,); otherwise None."""
        vocabulary, favours = self.preferences.vocabulary, self.preferences.of(features.numpy())
        uniform = torch.rand(favours.shape, generator=generator, dtype=torch.float64).clamp(min=1e-12)
        noise = (-(-uniform.log()).log()).numpy()  # Gumbel's law
        found = zip(self.written[rows], favours, noise, chosen.tolist(), strict=True)
        return tuple(
            with_wishes(prompt, wishes(vocabulary, prompt, favour, own)) if is_chosen else None
            for prompt, favour, own, is_chosen in found
        )


def check_latents(groups: GroupTensors, unet: UNet2DConditionModel) -> None:
    """Refuses latents of another shape than the U-Net's."""
    if groups.latents is None:
        return  # GeneratorBatches raises the error
    channels, size = unet.config.in_channels, unet.config.sample_size
    if groups.latents.shape[2:] != (channels, size, size):
        found = "×".join(map(str, groups.latents.shape[2:]))
        raise TopologyError(f"the U-Net's latents are {channels}×{size}×{size}, those of the groups {found}")


def check_finite(groups: GroupTensors, at_once: int = 256) -> None:
    """Refuses latents with NaN or infinity before the training begins."""
    assert groups.latents is not None
    starts = range(0, len(groups), at_once)
    whole = [np.isfinite(groups.latents[at : at + at_once]).all(axis=(1, 2, 3, 4)) for at in starts]
    bad = np.flatnonzero(~np.concatenate(whole)) if whole else np.zeros(0, int)
    if len(bad):
        first = bad[0] if groups.group_ids is None else groups.group_ids[bad[0]]
        others = f" and of {len(bad) - 1} more" if len(bad) > 1 else ""
        raise GroupError(f"latents of group {first}{others} hold NaN or infinity")
