"""The maths of one training step of a generator: from groups with their noise to a loss for each.

All K images of a group share t and ε. Knows policies and objectives; nothing about data on disk, loops or optimizers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.common.noise import add_noise
from training.common.objectives import diffusion_dpo, eps_mse, group_preference, implicit_accuracy, set_plackett_luce
from training.generator.recipes import GeneratorRecipe
from training.models.policies import Policy

MEASURES = ("loss", "winner", "loser", "reference", "accuracy")


@dataclass(frozen=True)
class Batch:
    """B groups of K images with their noise."""

    z_0: Tensor  # (B, K, C, S, S) clean latents
    text: Tensor  # (B, 77, D)
    features: Tensor  # (B, F)
    selected: Tensor  # (B, K)
    others: Tensor  # (B, K) the images that were shown and not selected
    t: Tensor  # (B,) one noise level a group
    eps: Tensor  # (B, C, S, S) one noise a group

    def to(self, device: torch.device) -> "Batch":
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of the noise prediction, fp32, (B, K)."""

    policy: Tensor  # m_θ
    reference: Tensor | None  # m_ref; no gradient; None if not asked for


def noise_errors(policy: Policy, batch: Batch, alphas_bar: Tensor, *, with_reference: bool = True) -> Errors:
    """m_θ and m_ref of every image."""
    b, k = batch.selected.shape
    z_t = add_noise(batch.z_0, batch.eps.unsqueeze(1), alphas_bar[batch.t]).flatten(0, 1)  # (B·K, C, S, S)
    t, eps = batch.t.repeat_interleave(k), batch.eps.repeat_interleave(k, 0)
    predicted = policy(z_t, t, batch.text, batch.features, with_reference=with_reference)
    reference = None if predicted.reference is None else eps_mse(eps, predicted.reference).view(b, k)
    return Errors(eps_mse(eps, predicted.policy).view(b, k), reference)


def losses_of(recipe: GeneratorRecipe, errors: Errors, batch: Batch) -> Tensor:
    """The recipe's objective, one value a group, (B,)."""
    if errors.reference is None:  # Eq. 1
        return (errors.policy * batch.selected).sum(1) / batch.selected.sum(1).clamp(min=1)
    d = errors.policy - errors.reference
    if recipe.objective == "group":
        return group_preference(d, batch.selected, recipe.kappa, recipe.reduction, batch.others)  # Eq. 13/18
    if recipe.objective == "set_plackett_luce":
        return set_plackett_luce(-recipe.kappa * d, batch.selected, batch.others).to(d.dtype)
    winner, loser = (of.float().argmax(1, keepdim=True) for of in (batch.selected, batch.others))  # pairs: K = 2
    at = [m.gather(1, place).squeeze(1) for m in (errors.policy, errors.reference) for place in (winner, loser)]
    return diffusion_dpo(*at, beta=2 * recipe.kappa)


def measures(losses: Tensor | None, errors: Errors, batch: Batch) -> Tensor:
    """Measures of progress and divergence: for each of MEASURES its sum and its count, (len(MEASURES), 2)."""
    policy, reference, nothing = errors.policy.detach(), errors.reference, batch.eps.new_zeros(0)
    d = nothing if reference is None else policy - reference
    accuracy = nothing if reference is None else implicit_accuracy(d, batch.selected, batch.others)
    values = {
        "loss": nothing if losses is None else losses.detach(),
        "winner": policy[batch.selected],
        "loser": policy[batch.others],
        "reference": nothing if reference is None else reference[batch.selected],
        "accuracy": accuracy[~accuracy.isnan()],
    }
    return torch.stack([torch.stack([v.double().sum(), v.new_tensor(v.numel()).double()]) for v in values.values()])


def means(sums: Tensor, names: Sequence[str] = MEASURES) -> dict[str, float]:
    """The means of summed `measures`, by name; a measure with count 0 is left out."""
    rows = zip(names, sums.tolist(), strict=True)
    return {name: total / count for name, (total, count) in rows if count}
