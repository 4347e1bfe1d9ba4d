"""Draws what a family answers to prompts: text states, the merchant, a sampler with guidance, the VAE.

A picture depends on its prompt, merchant and noise, from which the choice among wishes follows, too, and not on what
is drawn beside it. Knows policies and a family; nothing of tastes or of what pictures are worth. The product draws with
the generation service's own loop.
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
from training.common.workers import Workers
from training.data.text_states import TextStates
from training.generator.sampling import Scheduler, sample, to_images
from training.models.distilled import Distilled
from training.models.family import FamilyPaths
from training.models.policies import Policy, to_draw_with
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


class Artist:
    """One policy with its family's text encoder, VAE and noise schedule."""

    def __init__(
        self, policy: Policy, family: FamilyPaths, how: Drawing | None = None, distilled: Distilled | None = None
    ) -> None:
        """`distilled` says how the policy's U-Net was; None: it was not."""
        self.device, self.distilled = Workers().device, distilled
        self.policy, self.how = policy.to(self.device), how or Drawing()
        self.vae, self.tokenizer = family.vae().to(self.device), family.tokenizer()
        self.text_encoder = family.text_encoder()
        self.scheduler = sampler_of(family, self.how.sampler)
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
        states = TextStates(self.text_encoder, ids[:, None], self.device)
        return states.of(np.arange(len(ids)), np.zeros(len(ids), int))

    @torch.inference_mode()
    def draw(self, text: Tensor, features: Tensor, noise: Tensor, desc: str | None) -> np.ndarray:
        """Pictures uint8 (G, K, H, W, 3) for text states (G, 77, D), profiles (G, F) and noise (G, K, C, S, S).

        `desc` names the progress bar; None: there is none.
        """
        k = noise.shape[1]
        parts = torch.arange(len(noise)).split(max(1, self.how.batch_size // k))
        progress = tqdm(parts, desc=desc, mininterval=5, disable=desc is None)
        found = [self._batch(text[part], features[part], noise[part]) for part in progress]
        drawn = np.concatenate(found)
        return drawn.reshape(-1, k, *drawn.shape[1:])

    def _batch(self, text: Tensor, features: Tensor, noise: Tensor) -> np.ndarray:
        users = features.to(self.device)

        def conditional(z_t: Tensor, t: Tensor, states: Tensor) -> Tensor:
            return self.policy(z_t, t, states, users, with_reference=False).policy

        how = {"guidance": self.how.guidance_scale, "steps": self.how.num_steps, "scheduler": self.scheduler}
        unconditional = None if self.distilled else self.policy.without_user
        if self.distilled is not None:
            text = self.distilled.text(text, self.no_text, self.no_text, self.how.guidance_scale)
        starts = noise.flatten(0, 1).to(self.device)
        return to_images(self.vae, sample(conditional, unconditional, text, self.no_text, starts, **how))


class Generator:
    """A family that draws as it is released: its backbone, its adapter and wishes if it has them, its defaults."""

    def __init__(self, family: FamilyPaths, *, personal: bool = True) -> None:
        """`personal` False leaves out adapter and wishes: the plain U-Net.

        Raises:
            WeightsError: a part is missing, or was trained with another schema, vocabulary or U-Net.
        """
        self.schema = family.schema()
        adapter = family.adapter if personal and family.adapter.exists() else None
        policy = to_draw_with(family.backbone_unet(), adapter, self.schema)
        self.artist = Artist(policy, family, Drawing(**vars(family.request_defaults())), family.distilled())
        wishing = personal and family.preferences.exists()
        self.preferences = (
            PreferenceWeights.load(family.preferences, self.schema, family.vocabulary()) if wishing else None
        )

    def draw(self, prompts: Sequence[str], features: np.ndarray, noise: Tensor, desc: str | None) -> np.ndarray:
        """Pictures uint8 (G, K, H, W, 3) of G prompts for encoded profiles (G, F), from noise (G, K, C, S, S)."""
        artist, users = self.artist, torch.from_numpy(features)
        if self.preferences is None:
            return artist.draw(artist.states(prompts), users, noise, desc)
        text = wished_states(artist, prompts, self.preferences.of(features), noise, self.preferences)
        alone, k = noise.flatten(0, 1).unsqueeze(1), noise.shape[1]
        drawn = artist.draw(text, users.repeat_interleave(k, 0), alone, desc)  # (G·K, 1, H, W, 3)
        return drawn.reshape(len(noise), k, *drawn.shape[2:])


def sampler_of(family: FamilyPaths, name: str) -> Scheduler:
    """One of SAMPLERS on the family's noise schedule, with the services' choice of steps."""
    config = family.noise_scheduler().config | {"timestep_spacing": "trailing", "steps_offset": 0}
    return SAMPLERS[name].from_config(config)


class Reads(Protocol):
    """Reads prompts: `Artist`, and whatever else has text states."""

    @property
    def how(self) -> Drawing: ...

    def states(self, prompts: Sequence[str]) -> Tensor: ...


def wished_states(
    artist: Reads, prompts: Sequence[str], favours: np.ndarray, noise: Tensor, preferences: PreferenceWeights
) -> Tensor:
    """Text states (G·K, 77, D) of each candidate's prompt with its wishes, weighed by the adapter scale.

    Args:
        prompts, favours: of G groups, and of their merchants, (G, V).
        noise: what each candidate starts from, (G, K, C, S, S).
    """
    wished = [
        with_wishes(prompt, wishes(preferences.vocabulary, prompt, favour, choice_noise_of(start, len(favour))))
        for prompt, favour, of_group in zip(prompts, favours, noise, strict=True)
        for start in of_group
    ]
    plain = artist.states([prompt for prompt in prompts for _ in range(noise.shape[1])])
    return plain + artist.how.adapter_scale * (artist.states(wished) - plain)


def choice_noise_of(start: Tensor, n_phrases: int) -> np.ndarray:
    """Standard Gumbel noise (V,) that a candidate's starting noise (C, S, S) stands for."""
    seed = int.from_bytes(sha256(start.numpy().tobytes()).digest()[:7])
    return np.random.default_rng(seed).gumbel(size=n_phrases)
