"""The ways to take a step of PerFusion's training that are timed against each other.

`python -m lab.benchmarks.generator_throughput` is the command, and says what each does.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from torch import Tensor

from lab.benchmarks.options import write
from lab.benchmarks.turns import race, random_groups
from training.common.noise import add_noise
from training.common.objectives import eps_mse
from training.data.groups import GroupTensors
from training.data.load import encode_latents
from training.generator.recipes import tiny
from training.generator.step import Batch, Errors, losses_of, noise_errors
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths, hush_libraries
from training.models.policies import AdaptedUNet

Way = Callable[[AdaptedUNet, Batch, Tensor], Errors]


def separate(reference: torch.nn.Module) -> Way:
    """Two U-Nets, each with its own whole pass."""

    def errors(policy: AdaptedUNet, batch: Batch, alphas_bar: Tensor) -> Errors:
        b, k = batch.selected.shape
        z_t = add_noise(batch.z_0, batch.eps.unsqueeze(1), alphas_bar[batch.t]).flatten(0, 1)
        t, text = batch.t.repeat_interleave(k), batch.text.repeat_interleave(k, 0)
        eps, users = batch.eps.repeat_interleave(k, 0), batch.features.repeat_interleave(k, 0)
        added = policy.network(z_t, t, text, users)
        residuals = {
            "down_block_additional_residuals": added.skips, "mid_block_additional_residual": added.middle
        }  # fmt: skip
        personal = policy.unet(z_t, t, text, **residuals).sample
        with torch.no_grad():
            plain = reference(z_t, t, text).sample
        return Errors(eps_mse(eps, personal).view(b, k), eps_mse(eps, plain).view(b, k))

    return errors


def ways_of(family: FamilyPaths, groups: GroupTensors) -> dict[str, Callable[[], None]]:
    """The three, each with its own adapter."""
    vae, text_encoder, recipe = family.vae(), family.text_encoder(), tiny("group")
    alphas_bar, unet = family.noise_scheduler().alphas_cumprod, family.unet()
    assert groups.images is not None
    n, k = groups.selected.shape
    ids, images = torch.tensor(groups.input_ids[:, 0]), groups.images.reshape(-1, *groups.images.shape[2:])
    selected, generator = torch.tensor(groups.selected), torch.Generator().manual_seed(0)

    def batch(latents: Tensor, text: Tensor) -> Batch:
        t = torch.randint(1_000, (n,), generator=generator)
        eps = torch.randn((n, *latents.shape[2:]), generator=generator)
        return Batch(latents, text, torch.tensor(groups.features), selected, ~selected, t, eps)

    @torch.no_grad()
    def encoded() -> tuple[Tensor, Tensor]:
        latents = torch.tensor(encode_latents(vae, images, quiet=True)).float().unflatten(0, (n, k))
        return latents, text_encoder(ids.repeat_interleave(k, 0)).last_hidden_state[::k]

    cached = batch(*encoded())

    def step(errors: Way, *, encodes: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        policy = AdaptedUNet(unet, PersonalisedAdaptiveNetwork.from_unet(unet, groups.schema))
        optimizer = torch.optim.AdamW(policy.network.parameters(), recipe.lr)

        def one() -> None:
            now = batch(*encoded()) if encodes else cached
            losses_of(recipe, errors(policy, now, alphas_bar), now).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        return one

    second = copy.deepcopy(unet)
    return {
        "ours": step(noise_errors, encodes=False),
        "separate": step(separate(second), encodes=False),
        "plain": step(separate(second), encodes=True),
    }


def run(arguments: argparse.Namespace) -> None:
    """Times them and writes the report."""
    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    size_px = family.vae().config.sample_size
    groups = random_groups(family.schema(), family.tokenizer(), size_px, arguments.groups, 5)
    write(race(ways_of(family, groups), arguments.groups, arguments.rounds), arguments.out)
