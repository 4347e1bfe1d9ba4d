"""Every loss of the paper and of its baselines, as pure functions.

Symbols and equation numbers are the paper's. Each function returns one value per group, so the
caller decides how groups are averaged. All compute in float32 or wider and stay finite for any
finite input. A group without positives or without negatives contributes exactly 0 to a preference
loss, and no NaN gradient. Knows nothing about models, noise schedules or data.

Conventions: m is the MEAN squared error over C, H, W; d = m_θ − m_ref; κ multiplies d directly,
so κ = β/2 of the public Diffusion-DPO code; preference rewards are r = −κ·d.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from training.common.recipes import Reduction

MASKED = -1e30  # stands for −∞ in a logsumexp; finite, so that empty sets give no NaN gradient
QUADRATURE_STEP = 0.125  # trapezoidal rule in x; its error is of the order exp(−π²/step)


def eps_mse(eps: Tensor, eps_theta: Tensor) -> Tensor:
    """Eq. 1 per sample: mean over C, H, W of (ε − ε_θ)², in fp32. (…, C, H, W) → (…)"""
    return (eps.float() - eps_theta.float()).square().mean(dim=(-3, -2, -1))


def group_preference(
    d: Tensor,
    positives: Tensor,
    kappa: float,
    reduction: Reduction = "sum",
    negatives: Tensor | None = None,
) -> Tensor:
    """Eq. 13/18: L = Σ_{i∈P} softplus(logsumexp_{j∈N} κ·(d_i − d_j)). (B, K) → (B,)

    `negatives` defaults to all images that are not selected; an image in neither set is ignored.
    """
    negatives = ~positives if negatives is None else negatives
    r = -kappa * _only(d, positives | negatives)  # (B, K)
    against = _masked(r, negatives).logsumexp(-1, keepdim=True)  # (B, 1)
    usable = positives & negatives.any(-1, keepdim=True)  # (B, K)
    margin = torch.where(usable, against - r, MASKED)
    total = softplus(margin).sum(-1)  # softplus(MASKED) = 0 exactly
    return total if reduction == "sum" else total / usable.sum(-1).clamp(min=1)


def diffusion_dpo(m_winner: Tensor, m_loser: Tensor, r_winner: Tensor, r_loser: Tensor, beta: float) -> Tensor:
    """Diffusion-DPO: −log σ(−½β·[(m_w − m_l) − (r_w − r_l)]); m of the policy, r of the reference."""
    return softplus(0.5 * beta * ((m_winner - m_loser) - (r_winner - r_loser)))


def step_preference(winner: Tensor, loser: Tensor, beta: float, clip: float) -> Tensor:
    """SPO (Liang et al., 2024): −log σ(β·log ρ_w − β·log ρ_l), ρ = p_θ/p_ref of one denoising step. (…) → (…)

    `winner` and `loser` are log ρ; each ratio is clipped to [1 − clip, 1 + clip], beyond which it has no gradient.
    """
    w, v = (log_ratio.float().clamp(math.log(1 - clip), math.log(1 + clip)) for log_ratio in (winner, loser))
    return softplus(-beta * (w - v))


def reward_cross_entropy(scores: Tensor, selected: Tensor, valid: Tensor | None = None) -> Tensor:
    """Eq. 7–9: cross-entropy of p̂ = softmax_k(scores) with p*_k = l_k / Σ_j l_j. (B, K) → (B,)

    `scores` are exp(logit_scale)·r; `valid` marks the real images of padded groups. `selected` may say how much each
    selected image counts, as numbers from 1 on: l_k.
    """
    valid = torch.ones_like(selected, dtype=torch.bool) if valid is None else valid
    chosen = selected * valid
    log_p_hat = _masked(scores.float(), valid).log_softmax(-1)  # (B, K)
    p_star = chosen / chosen.sum(-1, keepdim=True).clamp(min=1)  # (B, K)
    return -(p_star * torch.where(chosen > 0, log_p_hat, 0.0)).sum(-1)


def pairwise_cross_entropy(
    scores: Tensor, selected: Tensor, valid: Tensor | None = None, *, ties: bool = False
) -> Tensor:
    """Mean over a group's pairs of the two-way cross-entropy of softmax(s_i, s_j) with their labels. (B, K) → (B,)

    A selected and another image have the labels (1, 0): −log σ(s_i − s_j), ImageReward's loss. With `ties`, two
    selected ones have (½, ½), as in PickScore and HPSv2. A pair of unselected images has no loss.
    """
    valid = torch.ones_like(selected) if valid is None else valid
    selected, others = selected & valid, ~selected & valid
    gap = _only(scores, valid).unsqueeze(-1) - _only(scores, valid).unsqueeze(-2)  # (B, K, K) [i, j] = s_i − s_j
    strict = (selected.unsqueeze(-1) & others.unsqueeze(-2)).float()
    tied = (selected.unsqueeze(-1) & selected.unsqueeze(-2)).triu(1).float() * ties
    loss = softplus(-gap) * strict + 0.5 * (softplus(-gap) + softplus(gap)) * tied
    return loss.sum((-2, -1)) / (strict + tied).sum((-2, -1)).clamp(min=1)


def rating_error(scores: Tensor, selected: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared error of ratings on the scale 1…10; a selected image is 10, another 1. (B, K) → (B,)"""
    valid = torch.ones_like(selected) if valid is None else valid
    target = 1.0 + 9.0 * (selected & valid).float()
    error = (_only(scores, valid) - torch.where(valid, target, 0.0)).square()
    return error.sum(-1) / valid.sum(-1).clamp(min=1)


def set_plackett_luce(r: Tensor, positives: Tensor, negatives: Tensor | None = None) -> Tensor:
    """−log P(all of P before all of N) under Plackett–Luce, exact for any |P|. (B, K) → (B,)

    P = ∫₀¹ Π_{i∈P}(1 − v^{w_i/W_N}) dv, w_i = e^{r_i}, W_N = Σ_{j∈N} w_j. With v = exp(−e^x) the
    integrand is analytic and decays at both ends, so the trapezoidal rule converges to double
    precision; it is summed in logarithms. Equals `group_preference` (r = −κ·d) for |P| = 1.
    """
    negatives = ~positives if negatives is None else negatives
    usable = positives.any(-1) & negatives.any(-1)  # (B,)
    r = _only(r.double(), positives | negatives)
    alpha = r - _masked(r, negatives).logsumexp(-1, keepdim=True)  # (B, K) log(w_i / W_N)
    alpha = torch.where(positives & usable.unsqueeze(-1), alpha, 0.0)
    x = torch.arange(-40.0, 5.0, QUADRATURE_STEP, dtype=r.dtype, device=r.device)  # (Q,)
    factors = _log1mexp_exp(x + alpha.unsqueeze(-1))  # (B, K, Q) log(1 − v^{w_i/W_N})
    log_f = x - x.exp() + (factors * positives.unsqueeze(-1)).sum(-2)  # (B, Q)
    log_p = log_f.logsumexp(-1) + math.log(QUADRATURE_STEP)
    return torch.where(usable, -log_p, 0.0).clamp(min=0.0)


def listwise(d: Tensor, ranking: Tensor, kappa: float) -> Tensor:
    """The list-wise objective: −log Plackett–Luce of a whole ranking. (B, K) → (B,)

    `ranking` holds image indices, best first: Σ_k [logsumexp_{j≥k} r_(j) − r_(k)], r = −κ·d.
    """
    r = -kappa * d.float().gather(-1, ranking)  # (B, K) best first
    rest = r.flip(-1).logcumsumexp(-1).flip(-1)  # (B, K) logsumexp of this and all later places
    return (rest - r).sum(-1)


def implicit_accuracy(d: Tensor, selected: Tensor, others: Tensor | None = None) -> Tensor:
    """Share of (positive, negative) pairs with d_i < d_j, ties ½; NaN without pairs. (B, K) → (B,)"""
    others = ~selected if others is None else others
    gap = d.unsqueeze(-2) - d.unsqueeze(-1)  # (B, K, K) [i, j] = d_j − d_i
    pairs = selected.unsqueeze(-1) & others.unsqueeze(-2)  # (B, K, K) i ∈ P, j ∈ N
    wins = (gap > 0).float() + 0.5 * (gap == 0).float()
    return (wins * pairs).sum((-2, -1)) / pairs.sum((-2, -1))


def _only(values: Tensor, mask: Tensor) -> Tensor:
    """0 where the mask is off, in float32 or wider; cuts the gradient and any NaN there."""
    wide = values if values.dtype == torch.float64 else values.float()
    return torch.where(mask, wide, 0.0)


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, MASKED)


def _log1mexp_exp(z: Tensor) -> Tensor:
    """log(1 − exp(−e^z)), accurate from z → −∞ (about z) to z → +∞ (about 0)."""
    small = z < -18.0  # there log(1 − exp(−e^z)) = z − e^z/2 to double precision
    middle = torch.where(small, 0.0, z.clamp(max=30.0))
    return torch.where(small, z - 0.5 * z.exp(), torch.log(-torch.expm1(-middle.exp())))
