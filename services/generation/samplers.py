"""Samplers: how a picture's latents go from noise to clean in a few steps. Pure numpy; no model, no I/O.

Each is the same algorithm as its namesake in diffusers with `timestep_spacing="trailing"`, `steps_offset` 0 and a final
noise level of zero, and is tested against it. "Trailing" is used because its timesteps are integers, as the denoiser
takes them, and begin at the noisiest one for any number of steps, so that even a single step starts at the noise level
of its input.

Around an image (img2img) the timesteps begin at the noise level of the strength, whatever the number of steps, and are
spread as evenly from there. diffusers' img2img pipelines keep the timesteps of the whole way instead and drop the first
of them: they begin at the nearest one of those, so that a strength below 1 / num_steps means hardly less than 1. Where
strength × num_steps is a whole number both are the same.

Two conventions of noise level: a = ᾱ_t (variance preserving: x = √a·x₀ + √(1−a)·ε) and σ = √((1−a)/a) (variance
exploding: x = x₀ + σ·ε). Only ε-prediction is known.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Latents = NDArray[np.float32]  # (B, C, S, S)


@dataclass(frozen=True)
class Stepped:
    """What one step gives."""

    latents: Latents  # at the next, lower noise level
    predicted_x0: Latents  # the clean latents as foreseen now, for previews


def cumulative_alphas(
    num_train_timesteps: int, beta_start: float, beta_end: float, beta_schedule: str
) -> NDArray[np.float64]:
    """ᾱ_t for every training timestep  # (T,)"""
    if beta_schedule == "scaled_linear":  # linear in √β, Stable Diffusion's own
        betas = np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2
    elif beta_schedule == "linear":
        betas = np.linspace(beta_start, beta_end, num_train_timesteps)
    else:
        raise ValueError(f"unknown beta schedule {beta_schedule!r}")
    return np.cumprod(1.0 - betas, dtype=np.float64)


def trailing_timesteps(start: int, num_steps: int) -> list[int]:
    """`num_steps` timesteps from `start` − 1 down, evenly spaced."""
    spaced = np.arange(start, 0, -start / num_steps).round().astype(int) - 1
    return [int(timestep) for timestep in spaced[:num_steps]]


def steps_run(num_steps: int, strength: float) -> int:
    """The steps that run from a strength down, so that none is wider than on the whole way; at least one."""
    return max(1, math.ceil(round(num_steps * strength, 6)))


class Sampler(ABC):
    """One round's sampler. It remembers what its method needs of earlier steps, so it serves one round only.

    Args:
        alphas: ᾱ_t of every training timestep  # (T,)
        num_steps: of the whole way, from noise alone.
        strength: how far up the way begins, above 0 to 1; 1 is noise alone.
    """

    def __init__(self, alphas: NDArray[np.float64], num_steps: int, strength: float = 1.0) -> None:
        self._alphas = alphas
        start, steps = max(1, round(strength * len(alphas))), steps_run(num_steps, strength)
        self._step_width = start // steps
        self.timesteps = trailing_timesteps(start, steps)

    def sigma(self, index: int) -> float:
        """σ at the index-th step; 0 after the last."""
        if index >= len(self.timesteps):
            return 0.0
        a = self._alphas[self.timesteps[index]]
        return float(((1 - a) / a) ** 0.5)

    @abstractmethod
    def start(self, noise: Latents, image: Latents | None = None) -> Latents:
        """Latents at the first step's noise level, from noise alone or around an image's clean latents."""

    def scale(self, latents: Latents, index: int) -> Latents:
        """The latents in the scale of the denoiser's input at this step."""
        return latents

    @abstractmethod
    def step(self, noise: Latents, latents: Latents, index: int) -> Stepped:
        """One step down, given the noise ε that the denoiser sees in the latents at step `index`."""


class Ddim(Sampler):
    """DDIM (Song et al. 2021) with η = 0."""

    def start(self, noise: Latents, image: Latents | None = None) -> Latents:
        return _noised(self._alphas[self.timesteps[0]], noise, image)

    def step(self, noise: Latents, latents: Latents, index: int) -> Stepped:
        timestep = self.timesteps[index]
        # Down by the whole-number width, as diffusers does, even where rounding put the next timestep one further.
        lower = timestep - self._step_width
        a, a_lower = float(self._alphas[timestep]), float(self._alphas[lower]) if lower >= 0 else 1.0
        x0 = (latents - (1 - a) ** 0.5 * noise) / a**0.5
        return Stepped(a_lower**0.5 * x0 + (1 - a_lower) ** 0.5 * noise, x0)


class DpmSolverPlusPlus2M(Sampler):
    """DPM-Solver++ (2M) (Lu et al. 2022), midpoint form; first order at the first step and the last, where σ is 0."""

    def __init__(self, alphas: NDArray[np.float64], num_steps: int, strength: float = 1.0) -> None:
        super().__init__(alphas, num_steps, strength)
        self._previous_x0: Latents | None = None

    def start(self, noise: Latents, image: Latents | None = None) -> Latents:
        return _noised(self._alphas[self.timesteps[0]], noise, image)

    def step(self, noise: Latents, latents: Latents, index: int) -> Stepped:
        sigma, lower = self.sigma(index), self.sigma(index + 1)
        # In the variance-preserving frame: x = alpha·x₀ + alpha·σ·ε, with λ = log(1/σ), so e^{−h} = lower / sigma.
        alpha, alpha_lower = (1 + sigma**2) ** -0.5, (1 + lower**2) ** -0.5
        x0 = latents / alpha - sigma * noise
        direction = x0
        if self._previous_x0 is not None and lower > 0:
            h, h_before = np.log(sigma / lower), np.log(self.sigma(index - 1) / sigma)
            direction = x0 + float(0.5 * h / h_before) * (x0 - self._previous_x0)
        self._previous_x0 = x0
        kept = (alpha_lower * lower) / (alpha * sigma)
        return Stepped(kept * latents + alpha_lower * (1 - lower / sigma) * direction, x0)


class Euler(Sampler):
    """Euler's method on dx/dσ = ε (Karras et al. 2022, Algorithm 2 without its correction), variance exploding."""

    def start(self, noise: Latents, image: Latents | None = None) -> Latents:
        scaled = self.sigma(0) * noise
        return scaled if image is None else image + scaled

    def scale(self, latents: Latents, index: int) -> Latents:
        return latents * np.float32((self.sigma(index) ** 2 + 1) ** -0.5)

    def step(self, noise: Latents, latents: Latents, index: int) -> Stepped:
        sigma, lower = self.sigma(index), self.sigma(index + 1)
        return Stepped(latents + (lower - sigma) * noise, latents - sigma * noise)


# By the names of contract.limits.SAMPLERS.
SAMPLERS: dict[str, type[Sampler]] = {"ddim": Ddim, "dpmsolver++2m": DpmSolverPlusPlus2M, "euler": Euler}


def _noised(a: float, noise: Latents, image: Latents | None) -> Latents:
    """Variance-preserving latents at ᾱ = a. Without an image, noise alone: at T−1 hardly anything else is left."""
    if image is None:
        return noise
    return np.float32(a**0.5) * image + np.float32((1 - a) ** 0.5) * noise
