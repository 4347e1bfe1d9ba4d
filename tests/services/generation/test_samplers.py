"""Our samplers against diffusers' of the same name, over whole trajectories with a made-up denoiser."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from contract import limits
from contract.release import BETA_SCHEDULES
from services.generation.samplers import SAMPLERS, Latents, Sampler, cumulative_alphas, steps_run, trailing_timesteps

# torch's arrays do not speak numpy 2's copy keyword yet; diffusers converts them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012}
CONFIG = {**BETAS, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
ALPHAS = cumulative_alphas(1000, 0.00085, 0.012, "scaled_linear")
SHAPE = (2, 4, 8, 8)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

THEIRS: dict[str, Callable[[], Any]] = {
    "ddim": lambda: DDIMScheduler(**CONFIG, clip_sample=False, set_alpha_to_one=True, steps_offset=0),
    "dpmsolver++2m": lambda: DPMSolverMultistepScheduler(**CONFIG),
    "euler": lambda: EulerDiscreteScheduler(**CONFIG),
}


def made_up_noise(latents: Latents, timestep: int) -> Latents:
    """Something nonlinear, bounded, and different at every timestep."""
    return np.tanh(0.7 * latents + timestep / 1000).astype(np.float32)


def normal(seed: int) -> Latents:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 20, 30, 50, 99, 100])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_trajectory_from_noise_is_diffusers(name: str, num_steps: int) -> None:
    ours, theirs = SAMPLERS[name](ALPHAS, num_steps), THEIRS[name]()
    theirs.set_timesteps(num_steps)
    assert ours.timesteps == [int(timestep) for timestep in theirs.timesteps]
    noise = normal(num_steps)
    latents, reference = ours.start(noise), torch.from_numpy(noise) * theirs.init_noise_sigma
    for index, timestep in enumerate(theirs.timesteps):
        np.testing.assert_allclose(latents, reference.numpy(), **TOLERANCE)
        model_input = theirs.scale_model_input(reference, timestep).numpy()
        np.testing.assert_allclose(ours.scale(latents, index), model_input, **TOLERANCE)
        latents = ours.step(made_up_noise(ours.scale(latents, index), int(timestep)), latents, index).latents
        predicted = torch.from_numpy(made_up_noise(model_input, int(timestep)))
        reference = theirs.step(predicted, timestep, reference).prev_sample
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, reference.numpy(), **TOLERANCE)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_trajectory_around_an_image_is_diffusers_where_no_step_is_cut(name: str, strength: float) -> None:
    ours, theirs = SAMPLERS[name](ALPHAS, 20, strength), THEIRS[name]()
    theirs.set_timesteps(20)
    left_out = 20 - steps_run(20, strength)
    timesteps = theirs.timesteps[left_out:]
    assert ours.timesteps == [int(timestep) for timestep in timesteps]
    theirs.set_begin_index(left_out) if hasattr(theirs, "set_begin_index") else None
    image, noise = normal(1), normal(2)
    latents = ours.start(noise, image)
    reference = theirs.add_noise(torch.from_numpy(image), torch.from_numpy(noise), timesteps[:1])
    np.testing.assert_allclose(latents, reference.numpy(), **TOLERANCE)
    for index, timestep in enumerate(timesteps):
        model_input = theirs.scale_model_input(reference, timestep).numpy()
        latents = ours.step(made_up_noise(ours.scale(latents, index), int(timestep)), latents, index).latents
        predicted = torch.from_numpy(made_up_noise(model_input, int(timestep)))
        reference = theirs.step(predicted, timestep, reference).prev_sample
    np.testing.assert_allclose(latents, reference.numpy(), **TOLERANCE)


@pytest.mark.parametrize("num_steps", range(1, 101))
def test_timesteps_are_as_many_as_asked_and_fall_from_the_noisiest(num_steps: int) -> None:
    timesteps = trailing_timesteps(1000, num_steps)
    assert len(timesteps) == num_steps and timesteps[0] == 999 and timesteps[-1] >= 0
    assert all(higher > lower for higher, lower in zip(timesteps, timesteps[1:], strict=False))


@pytest.mark.parametrize("num_steps", [1, 5, 61])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_denoiser_that_knows_the_picture_gets_it_back(name: str, num_steps: int) -> None:
    """With the exact noise of one clean picture, every sampler must end on that picture."""
    clean, sampler = normal(3), SAMPLERS[name](ALPHAS, num_steps)
    latents = sampler.start(normal(4), clean)
    for index, timestep in enumerate(sampler.timesteps):
        a = float(ALPHAS[timestep])
        seen = sampler.scale(latents, index)  # √a·clean + √(1−a)·ε in every sampler's own terms
        latents = sampler.step((seen - a**0.5 * clean) / (1 - a) ** 0.5, latents, index).latents
    np.testing.assert_allclose(latents, clean, atol=2e-3 if name != "ddim" else 0.2)


def test_the_samplers_are_those_that_the_contract_names() -> None:
    assert set(SAMPLERS) == set(limits.SAMPLERS)


def test_every_schedule_that_a_manifest_may_name_is_known() -> None:
    assert all(len(cumulative_alphas(1000, 8.5e-4, 0.012, schedule)) == 1000 for schedule in BETA_SCHEDULES)


STRENGTHS = (0.001, 0.01, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 0.9, 0.99, 1.0)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 6, 20])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_around_an_image_begins_at_its_strengths_noise_level(name: str, num_steps: int) -> None:
    for strength in STRENGTHS:
        sampler = SAMPLERS[name](ALPHAS, num_steps, strength)
        assert sampler.timesteps[0] == max(0, round(1000 * strength) - 1)
        assert len(sampler.timesteps) == steps_run(num_steps, strength) <= num_steps
        falls = np.diff([*sampler.timesteps, -1])
        assert (falls < 0).all() and (falls >= -np.ceil(1000 / num_steps) - 1).all()  # no step wider than without image
    assert SAMPLERS[name](ALPHAS, num_steps, 1.0).timesteps == SAMPLERS[name](ALPHAS, num_steps).timesteps


@pytest.mark.parametrize("num_steps", [1, 2, 4, 6, 20])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_stronger_the_further_from_the_image(name: str, num_steps: int) -> None:
    image = normal(5)
    distances = [
        float(np.abs(walked(SAMPLERS[name](ALPHAS, num_steps, strength), image) - image).mean())
        for strength in STRENGTHS
    ]
    least = -0.01 * distances[-1]  # where a step is added, the same strength is walked more finely
    assert (np.diff(distances) > least).all()
    assert distances[1] < 0.1 * distances[-1]  # 0.01 keeps the image


def walked(sampler: Sampler, image: Latents) -> Latents:
    """Where a sampler ends that begins at an image, by the exact denoiser of others: normal around their mean."""
    mean, variance, latents = 1.0, 0.25, sampler.start(normal(6), image)
    for index, timestep in enumerate(sampler.timesteps):
        a, seen = float(ALPHAS[timestep]), sampler.scale(latents, index)
        x0 = (variance * a**0.5 * seen + (1 - a) * mean) / (variance * a + 1 - a)
        latents = sampler.step((seen - a**0.5 * x0) / (1 - a) ** 0.5, latents, index).latents
    return latents


@pytest.mark.parametrize(
    ("num_steps", "strength", "runs"), [(1, 0.1, 1), (20, 0.01, 1), (20, 0.51, 11), (20, 0.55, 11), (100, 0.29, 29)]
)
def test_the_share_of_steps_that_run_is_rounded_up(num_steps: int, strength: float, runs: int) -> None:
    assert steps_run(num_steps, strength) == runs


def test_an_unknown_beta_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="beta schedule"):
        cumulative_alphas(1000, 0.1, 0.2, "cosine")
