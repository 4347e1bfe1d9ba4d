"""Draws what a method answers to the prompts of a measurement's rounds.

Knows who is shown which prompt; nothing of tastes or of what pictures are worth. How one family draws is
training.generator.drawing's.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lab.generation.splits import Rounds
from training.generator.drawing import SAMPLERS as SAMPLERS
from training.generator.drawing import Artist as Artist
from training.generator.drawing import Drawing as Drawing
from training.generator.drawing import choice_noise_of as choice_noise_of
from training.generator.drawing import wished_states
from training.wishes.preferences import PreferenceWeights


class Draws(Protocol):
    """Whoever answers prompts with pictures: `Artist`, or `ServedArtist` with the models of a release."""

    how: Drawing

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    def states(self, prompts: Sequence[str]) -> Tensor: ...

    def draw(self, text: Tensor, features: Tensor, noise: Tensor, desc: str) -> np.ndarray: ...


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
    alone, of_each = starts.flatten(0, 1).unsqueeze(1), torch.tensor(features).repeat_interleave(k, 0)
    text = wished_states(artist, prompts, preferences.of(features), starts, preferences)  # (M·P·K, 77, D)
    drawn = artist.draw(text, of_each, alone, "drawing")  # (M·P·K, 1, H, W, 3)
    return drawn.reshape(m, p, k, *drawn.shape[2:])


def for_unknown(artist: Draws, rounds: Rounds, noise: Tensor) -> np.ndarray:
    """Pictures of the whole pool (N, K, H, W, 3) from noise (N, K, C, S, S), for an unknown merchant."""
    empty = torch.zeros(len(noise), rounds.features.shape[1], dtype=torch.long)
    return artist.draw(artist.states(rounds.prompts), empty, noise, "drawing")
