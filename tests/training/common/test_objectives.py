"""The invariants of the objectives, against brute force and hand-derived values."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from training.common.objectives import (
    diffusion_dpo,
    eps_mse,
    group_preference,
    implicit_accuracy,
    listwise,
    pairwise_cross_entropy,
    rating_error,
    reward_cross_entropy,
    set_plackett_luce,
    step_preference,
)

KAPPA = 3.0


def group(k: int, positives: list[int]) -> Tensor:
    return torch.tensor([[i in positives for i in range(k)]])


def random_errors(k: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(1, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_eps_mse_is_the_mean_over_channels_and_pixels_in_float32() -> None:
    eps = torch.zeros(2, 5, 4, 8, 8, dtype=torch.float16)
    error = eps_mse(eps, torch.full_like(eps, 300.0))
    assert error.shape == (2, 5) and error.dtype == torch.float32
    assert torch.equal(error, torch.full((2, 5), 9e4))  # 300² overflows float16


@pytest.mark.parametrize("n_positive", [1, 2, 4])
def test_group_loss_with_a_silent_adapter_is_positives_times_log_one_plus_negatives(
    n_positive: int,
) -> None:
    loss = group_preference(torch.zeros(1, 5), group(5, list(range(n_positive))), KAPPA)
    assert loss.item() == pytest.approx(n_positive * math.log(1 + 5 - n_positive))


def test_group_loss_of_a_pair_is_diffusion_dpo() -> None:
    m_w, m_l, r_w, r_l = torch.rand(4, 7, dtype=torch.float64)
    d = torch.stack([m_w - r_w, m_l - r_l], dim=1)
    selected = torch.tensor([[True, False]]).expand(7, 2)
    ours = group_preference(d, selected, kappa=1000.0)
    torch.testing.assert_close(ours, diffusion_dpo(m_w, m_l, r_w, r_l, beta=2000.0))


def test_diffusion_dpo_is_the_public_formula() -> None:
    m_w, m_l, r_w, r_l = torch.rand(4, 7, dtype=torch.float64)
    inside = -0.5 * 5.0 * ((m_w - m_l) - (r_w - r_l))
    torch.testing.assert_close(diffusion_dpo(m_w, m_l, r_w, r_l, beta=5.0), -torch.log(torch.sigmoid(inside)))


def test_group_loss_ignores_order_and_a_constant_added_to_every_error() -> None:
    d, selected = random_errors(), group(5, [1, 3])
    loss = group_preference(d, selected, KAPPA)
    order = torch.tensor([4, 2, 0, 3, 1])
    torch.testing.assert_close(group_preference(d[:, order], selected[:, order], KAPPA), loss)
    torch.testing.assert_close(group_preference(d + 7.0, selected, KAPPA), loss)


def test_group_loss_is_the_sum_over_positives_written_out() -> None:
    d, selected = random_errors(), group(5, [1, 3])
    expected = sum(math.log1p(sum(math.exp(KAPPA * float(d[0, i] - d[0, j])) for j in (0, 2, 4))) for i in (1, 3))
    assert group_preference(d, selected, KAPPA).item() == pytest.approx(expected)
    mean = group_preference(d, selected, KAPPA, reduction="mean")
    assert mean.item() == pytest.approx(expected / 2)


@pytest.mark.parametrize(
    ("loss_name", "positives"),
    [("group", []), ("group", [0, 1, 2, 3, 4]), ("exact", []), ("exact", [0, 1, 2, 3, 4]), ("reward", [])],
)
def test_a_group_without_positives_or_negatives_contributes_nothing(loss_name: str, positives: list[int]) -> None:
    d = random_errors().requires_grad_()
    selected = group(5, positives)
    losses = {
        "group": group_preference(d, selected, 1e4),
        "exact": set_plackett_luce(d, selected),
        "reward": reward_cross_entropy(d, selected),
    }
    loss = losses[loss_name]
    assert loss.item() == 0.0
    loss.sum().backward()
    assert d.grad is not None and torch.equal(d.grad, torch.zeros_like(d))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_losses_and_gradients_stay_finite_for_extreme_errors(scale: float) -> None:
    for loss_of in (
        lambda d: group_preference(d, group(5, [1, 3]), 1e3),
        lambda d: set_plackett_luce(d, group(5, [1, 3])),
        lambda d: listwise(d, torch.tensor([[4, 2, 0, 3, 1]]), 1e3),
        lambda d: reward_cross_entropy(d, group(5, [1, 3])),
    ):
        d = (random_errors() * scale).requires_grad_()
        loss = loss_of(d)
        loss.sum().backward()
        assert torch.isfinite(loss).all() and d.grad is not None and torch.isfinite(d.grad).all()


def test_an_image_in_neither_set_does_not_matter_even_if_it_is_not_a_number() -> None:
    d, positives = random_errors(), group(5, [1])
    negatives = group(5, [0, 2])
    loss = group_preference(d, positives, KAPPA, negatives=negatives)
    broken = d.clone()
    broken[0, 4] = math.nan
    torch.testing.assert_close(group_preference(broken, positives, KAPPA, negatives=negatives), loss)


def brute_force_set_probability(r: list[float], positives: list[int]) -> float:
    """Sum of the Plackett–Luce probabilities of all orders in which P precedes N."""
    total = 0.0
    for order in itertools.permutations(range(len(r))):
        if set(order[: len(positives)]) == set(positives):
            weights = [math.exp(r[i]) for i in order]
            total += math.prod(w / sum(weights[i:]) for i, w in enumerate(weights))
    return total


@pytest.mark.parametrize("positives", [[2], [0, 3], [0, 1, 4], [0, 1, 2, 3]])
@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
def test_set_likelihood_equals_the_sum_over_all_orders(positives: list[int], spread: float) -> None:
    r = random_errors(seed=3) * spread
    exact = brute_force_set_probability(r[0].tolist(), positives)
    loss = set_plackett_luce(r, group(5, positives))
    assert loss.item() == pytest.approx(-math.log(exact), rel=1e-9, abs=1e-12)


def test_set_likelihood_of_one_positive_is_the_papers_objective_with_its_gradient() -> None:
    d, selected = random_errors().requires_grad_(), group(5, [2])
    ours = set_plackett_luce(-KAPPA * d, selected)
    papers = group_preference(d, selected, KAPPA)
    torch.testing.assert_close(ours, papers)
    torch.testing.assert_close(*(torch.autograd.grad(loss, d)[0] for loss in (ours, papers)))


def test_listwise_is_minus_the_log_probability_of_the_ranking() -> None:
    d = random_errors()
    ranking = [3, 1, 4, 0, 2]
    weights = [math.exp(-KAPPA * float(d[0, i])) for i in ranking]
    expected = -sum(math.log(w / sum(weights[i:])) for i, w in enumerate(weights))
    loss = listwise(d, torch.tensor([ranking]), KAPPA)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_reward_loss_has_the_gradient_of_the_kl_divergence() -> None:
    scores = random_errors().requires_grad_()
    selected = group(5, [1, 3])
    (gradient,) = torch.autograd.grad(reward_cross_entropy(scores, selected).sum(), scores)
    p_star = selected.double() / 2
    torch.testing.assert_close(gradient, scores.detach().softmax(-1) - p_star, atol=1e-6, rtol=0)


def test_reward_loss_ignores_padding() -> None:
    scores, selected = random_errors(4), group(4, [1])
    padded = torch.cat([scores, torch.full((1, 2), 50.0, dtype=torch.float64)], dim=1)
    valid = group(6, [0, 1, 2, 3])
    torch.testing.assert_close(
        reward_cross_entropy(padded, group(6, [1, 5]), valid),
        reward_cross_entropy(scores, selected),
    )


def test_implicit_accuracy_counts_pairs_and_halves_ties() -> None:
    d = torch.tensor([[0.0, 1.0, 0.0, -1.0]])
    assert implicit_accuracy(d, group(4, [0])).item() == pytest.approx((1 + 0.5 + 0) / 3)
    assert math.isnan(implicit_accuracy(d, group(4, [])).item())


def test_pairs_of_a_group_are_averaged_by_brute_force() -> None:
    scores, selected, present = (
        torch.randn(4, 5, generator=torch.Generator().manual_seed(3)),
        torch.zeros(4, 5).bool(),
        None,
    )
    selected[0, 1], selected[1, [0, 3]], selected[2, :] = True, True, True  # the last group: nothing selected
    present = torch.ones(4, 5).bool()
    present[1, 4] = False
    for ties in (False, True):
        found = pairwise_cross_entropy(scores, selected, present, ties=ties)
        for row in range(4):
            losses = []
            for i, j in itertools.combinations(range(5), 2):
                labels = torch.stack([selected[row, i], selected[row, j]]).float()
                if not (present[row, i] and present[row, j] and labels.sum()) or (labels.sum() == 2 and not ties):
                    continue
                log_p = torch.stack([scores[row, i], scores[row, j]]).log_softmax(0)
                losses.append(-(labels / labels.sum() * log_p).sum())
            expected = torch.stack(losses).mean() if losses else torch.tensor(0.0)
            torch.testing.assert_close(found[row], expected)


def test_two_candidates_make_pickscores_loss_the_softmax_of_two() -> None:
    scores = torch.randn(3, 2, generator=torch.Generator().manual_seed(4))
    selected = torch.tensor([[True, False], [False, True], [True, True]])
    ours = pairwise_cross_entropy(scores, selected, ties=True)
    torch.testing.assert_close(ours, reward_cross_entropy(scores, selected))


def test_ratings_aim_at_ten_and_one() -> None:
    scores = torch.tensor([[10.0, 1.0, 1.0], [1.0, 1.0, 5.0]])
    selected = torch.tensor([[True, False, False], [True, False, False]])
    present = torch.tensor([[True, True, True], [True, True, False]])
    assert torch.equal(rating_error(scores, selected, present), torch.tensor([0.0, 40.5]))


def test_ratios_beyond_the_clip_teach_nothing() -> None:
    winner, loser = torch.tensor([0.02, 0.3], requires_grad=True), torch.tensor([-0.03, -0.4], requires_grad=True)
    loss = step_preference(winner, loser, beta=10.0, clip=0.1)
    low, high = math.log(0.9), math.log(1.1)
    expected = [math.log1p(math.exp(-10 * (0.02 + 0.03))), math.log1p(math.exp(-10 * (high - low)))]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)
    loss.sum().backward()
    assert winner.grad[0] < 0 < loser.grad[0] and winner.grad[1] == loser.grad[1] == 0
