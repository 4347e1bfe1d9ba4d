"""Draws what a method answers to prompts: text states, the user, DPM-Solver++ with guidance, the VAE.

A picture depends on its prompt, user and noise, from which a user prompt's choice follows, too, and not on what is
drawn beside it. Knows policies, a family and who is shown which prompt; nothing of tastes or what pictures are worth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor
from tqdm import tqdm

from lab.generation.splits import Rounds
from lab.pretraining.train_tokenizer import encode
from training.data.text_states import TextStates
from training.generator.sampling import sample, to_images
from training.models.family import FamilyPaths
from training.models.policies import Policy

Prompted = Callable[[list[str], np.ndarray], list[str]]


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn."""

    steps: int = 6  # as good as 12 or 20 on the tiny family (docs/runs.md)
    guidance: float = 4.0
    batch_size: int = 64  # pictures at once, whole groups


class Artist:
    """One policy with its family's text encoder, VAE and noise schedule."""

    def __init__(self, policy: Policy, family: FamilyPaths, how: Drawing | None = None) -> None:
        self.policy, self.how = policy, how or Drawing()
        self.vae, self.tokenizer = family.vae(), family.tokenizer()
        self.text_encoder = family.text_encoder()
        self.scheduler = DPMSolverMultistepScheduler.from_config(family.noise_scheduler().config)
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
        start = noise.flatten(0, 1)  # (B, C, S, S)
        choice_noise = choice_noise_of(start, self.policy.n_phrases)

        def conditional(z_t: Tensor, t: Tensor, states: Tensor) -> Tensor:
            return self.policy(z_t, t, states, features, with_reference=False, choice_noise=choice_noise).policy

        how = {"guidance": self.how.guidance, "steps": self.how.steps, "scheduler": self.scheduler}
        halves = (conditional, self.policy.without_user)
        return to_images(self.vae, sample(*halves, text, self.no_text, start, **how))


def for_each(artist: Artist, rounds: Rounds, noise: Tensor, prompted: Prompted | None = None) -> np.ndarray:
    """Pictures (M, P, K, H, W, 3) of every merchant's prompts from the pool's noise (N, K, C, S, S).

    Args:
        prompted: what becomes of prompts of profiles (N, F) before they are drawn.
    """
    (m, p), given = rounds.given.shape, rounds.given.ravel()
    features, prompts = rounds.features.repeat(p, axis=0), [rounds.prompts[n] for n in given]
    if prompted is not None:
        prompts = prompted(prompts, features)
    drawn = artist.draw(artist.states(prompts), torch.tensor(features), noise[given], "drawing")  # (M·P, K, H, W, 3)
    return drawn.reshape(m, p, *drawn.shape[1:])


def for_nobody(artist: Artist, rounds: Rounds, noise: Tensor) -> np.ndarray:
    """Pictures of the whole pool (N, K, H, W, 3) from noise (N, K, C, S, S), for a user of whom nothing is known."""
    nobody = torch.zeros(len(noise), rounds.features.shape[1], dtype=torch.long)
    return artist.draw(artist.states(rounds.prompts), nobody, noise, "drawing")


def choice_noise_of(start: Tensor, n_phrases: int) -> Tensor:
    """Standard Gumbel noise (B, V) that each candidate's starting noise (B, C, S, S) stands for."""
    seeds = (int.from_bytes(sha256(one.numpy().tobytes()).digest()[:7]) for one in start)
    rows = [torch.rand(n_phrases, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return -(-torch.stack(rows).clamp_min(1e-12).log()).log()
