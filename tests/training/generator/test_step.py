"""One training step: errors as the whole U-Net has them, and objectives that are each other's special cases."""

import math
from dataclasses import replace

import pytest
import torch

from tests.training.loud import make_loud
from training.common.noise import add_noise
from training.common.objectives import eps_mse
from training.generator.recipes import GeneratorRecipe
from training.generator.step import MEASURES, Errors, losses_of, means, measures, noise_errors
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.policies import AdaptedUNet, Policy, TunedUNet

RECIPE = GeneratorRecipe("group", steps=6, lr=1e-3)


def test_errors_are_those_of_the_whole_unet_with_and_without_residuals(unet, schema, batch) -> None:
    network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
    alphas_bar = torch.linspace(0.999, 0.01, 1000)
    errors = noise_errors(AdaptedUNet(unet, network), batch, alphas_bar)
    for g in range(2):
        for k in range(3):
            t, eps = batch.t[g : g + 1], batch.eps[g : g + 1]
            z_t = add_noise(batch.z_0[g, k : k + 1], eps, alphas_bar[t])
            text = batch.text[g : g + 1]
            added = network(z_t, t, text, batch.features[g : g + 1])
            personal = unet(
                z_t, t, text, down_block_additional_residuals=added.skips, mid_block_additional_residual=added.middle
            )
            torch.testing.assert_close(errors.policy[g, k], eps_mse(eps, personal.sample)[0])
            torch.testing.assert_close(errors.reference[g, k], eps_mse(eps, unet(z_t, t, text).sample)[0])
    assert errors.policy.requires_grad and not errors.reference.requires_grad


def test_the_group_objective_of_pairs_is_diffusion_dpo(unet, schema, batch) -> None:
    """K = 2: the same loss and the same gradient of every parameter, to 1e-6."""
    pairs = replace(batch, z_0=batch.z_0[:, :2], selected=batch.selected[:, :2], others=batch.others[:, :2])
    found = []
    for objective in ("group", "dpo"):
        torch.manual_seed(0)
        network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
        errors = noise_errors(AdaptedUNet(unet, network), pairs, torch.linspace(0.999, 0.01, 1000))
        loss = losses_of(replace(RECIPE, objective=objective), errors, pairs).mean()
        loss.backward()
        found.append((loss, [p.grad for p in network.parameters()]))
    (group, of_group), (dpo, of_dpo) = found
    assert abs(group.item() - dpo.item()) < 1e-6 and group.item() != pytest.approx(math.log(2), abs=1e-3)
    for one, other in zip(of_group, of_dpo, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_exact_likelihood_trains_like_the_group_objective(unet, schema, batch) -> None:
    """With one picked image both are the same function; with several the exact one is larger or equal."""
    errors = noise_errors(
        AdaptedUNet(unet, make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)),
        batch,
        torch.linspace(0.999, 0.01, 1000),
    )
    group, exact = (losses_of(replace(RECIPE, objective=o), errors, batch) for o in ("group", "set_plackett_luce"))
    torch.testing.assert_close(group[0], exact[0])
    assert exact.dtype == group.dtype and not torch.isclose(group[1], exact[1])


@pytest.mark.parametrize("trains", ["adapter", "unet"])
def test_checkpointed_gradients_are_the_same(unet, schema, batch, trains: str) -> None:
    def gradients(checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
        policy: Policy = AdaptedUNet(unet, network) if trains == "adapter" else TunedUNet(unet)
        if checkpointed:
            policy.checkpoint_gradients()
        noise_errors(policy, batch, torch.linspace(0.999, 0.01, 1000)).policy.sum().backward()
        return [p.grad for p in policy.trained.parameters() if p.grad is not None]

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, again)


def test_measures_of_parts_add_up_and_what_was_never_there_is_left_out(batch) -> None:
    policy, reference = torch.rand(2, 3), torch.rand(2, 3)
    whole = measures(torch.tensor([1.0, 3.0]), Errors(policy, reference), batch)
    told = means(whole)
    assert set(told) == set(MEASURES) and told["loss"] == 2
    assert told["winner"] == pytest.approx(policy[batch.selected].mean().item())
    assert told["loser"] == pytest.approx(policy[batch.others].mean().item())
    assert means(whole + whole) == pytest.approx(told)
    assert set(means(measures(None, Errors(policy, None), batch))) == {"winner", "loser"}
