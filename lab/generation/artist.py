"""Draws what a method answers to prompts: text states, the merchant, a sampler with guidance, the VAE.

A picture depends on its prompt, merchant and noise, from which the choice among wishes follows, too, and not on what
is drawn beside it. Knows policies, a family and who is shown which prompt; nothing of tastes or of what pictures are
worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor
from tqdm import tqdm

from contract.wishes import wishes, with_wishes
from lab.generation.splits import Rounds
from training.data.text_states import TextStates
from training.generator.sampling import sample, to_images
from training.models.family import FamilyPaths
from training.models.policies import Policy
from training.models.tokens import encode
from training.wishes.preferences import PreferenceWeights

SAMPLERS = {"ddim": DDIMScheduler, "dpmsolver++2m": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler}


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn."""

    sampler: str = "dpmsolver++2m"  # of SAMPLERS
    num_steps: int = 6  # as good as 12 or 20 on the tiny family (docs/runs.md)
    guidance_scale: float = 4.0
    adapter_scale: float = 1.0  # of what wishes change in the text states; a release has a default of its own
    batch_size: int = 64  # pictures at once, whole groups


class Draws(Protocol):
    """Whoever answers prompts with pictures: `Artist`, or `ServedArtist` with the models of a release."""

    how: Drawing

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    def states(self, prompts: Sequence[str]) -> Tensor: ...

    def draw(self, text: Tensor, features: Tensor, noise: Tensor, desc: str) -> np.ndarray: ...


class Artist:
    """One policy with its family's text encoder, VAE and noise schedule."""

    def __init__(self, policy: Policy, family: FamilyPaths, how: Drawing | None = None) -> None:
        self.policy, self.how = policy, how or Drawing()
        self.vae, self.tokenizer = family.vae(), family.tokenizer()
        self.text_encoder = family.text_encoder()
        config = family.noise_scheduler().config | {"timestep_spacing": "trailing", "steps_offset": 0}
        self.scheduler = SAMPLERS[self.how.sampler].from_config(config)
        self.no_text = self.states([""])  # (1, 77, D)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, S, S) of what it denoises."""
        config = self.policy.unet.config
        return (config.in_channels, config.sample_size, config.sample_size)

    @torch.inference_mode()
    def states(self, prompts: Sequence[str]) -> Tensor:
        """Text states (N, 77, D)."""
        ids = encode(self.tokenizer, list(prompts))
        states = TextStates(self.text_encoder, ids[:, None], torch.device("cpu"))
        return states.of(np.arange(len(ids)), np.zeros(len(ids), int))

    @torch.inference_mode()
    def draw(self, text: Tensor, features: Tensor, noise: Tensor, desc: str) -> np.ndarray:
        """Pictures uint8 (G, K, H, W, 3) for text states (G, 77, D), profiles (G, F) and noise (G, K, C, S, S)."""
        k = noise.shape[1]
        parts = torch.arange(len(noise)).split(max(1, self.how.batch_size // k))
        found = [self._batch(text[part], features[part], noise[part]) for part in tqdm(parts, desc=desc, mininterval=5)]
        drawn = np.concatenate(found)
        return drawn.reshape(-1, k, *drawn.shape[1:])

    def _batch(self, text: Tensor, features: Tensor, noise: Tensor) -> np.ndarray:
        def conditional(z_t: Tensor, t: Tensor, states: Tensor) -> Tensor:
            return self.policy(z_t, t, states, features, with_reference=False).policy

        how = {"guidance": self.how.guidance_scale, "steps": self.how.num_steps, "scheduler": self.scheduler}
        halves = (conditional, self.policy.without_user)
        return to_images(self.vae, sample(*halves, text, self.no_text, noise.flatten(0, 1), **how))


def for_each(artist: Artist, rounds: Rounds, noise: Tensor, preferences: PreferenceWeights | None = None) -> np.ndarray:
    """Pictures (M, P, K, H, W, 3) of every merchant's prompts from the pool's noise (N, K, C, S, S).

    Args:
        preferences: of every merchant's wishes, which are added for each candidate; None: none are.
    """
    (m, p), k = rounds.given.shape, noise.shape[1]
    given, features = rounds.given.ravel(), rounds.features.repeat(p, axis=0)
    prompts, starts = [rounds.prompts[n] for n in given], noise[given]  # (M·P, K, C, S, S)
    if preferences is None:
        drawn = artist.draw(artist.states(prompts), torch.tensor(features), starts, "drawing")  # (M·P, K, H, W, 3)
        return drawn.reshape(m, p, *drawn.shape[1:])
    favours, phrases = preferences.of(features), preferences.vocabulary
    wished = [
        with_wishes(prompt, wishes(phrases, prompt, favour, choice_noise_of(start, len(favour))))
        for prompt, favour, of_group in zip(prompts, favours, starts, strict=True)
        for start in of_group
    ]  # M·P·K
    alone, of_each = starts.flatten(0, 1).unsqueeze(1), torch.tensor(features).repeat_interleave(k, 0)
    plain = artist.states([prompt for prompt in prompts for _ in range(k)])  # (M·P·K, 77, D)
    text = plain + artist.how.adapter_scale * (artist.states(wished) - plain)
    drawn = artist.draw(text, of_each, alone, "drawing")  # (M·P·K, 1, H, W, 3)
    return drawn.reshape(m, p, k, *drawn.shape[2:])


def for_unknown(artist: Draws, rounds: Rounds, noise: Tensor) -> np.ndarray:
    """Pictures of the whole pool (N, K, H, W, 3) from noise (N, K, C, S, S), for an unknown merchant."""
    empty = torch.zeros(len(noise), rounds.features.shape[1], dtype=torch.long)
    return artist.draw(artist.states(rounds.prompts), empty, noise, "drawing")


def choice_noise_of(start: Tensor, n_phrases: int) -> np.ndarray:
    """Standard Gumbel noise (V,) that a candidate's starting noise (C, S, S) stands for."""
    seed = int.from_bytes(sha256(start.numpy().tobytes()).digest()[:7])
    return np.random.default_rng(seed).gumbel(size=n_phrases)
