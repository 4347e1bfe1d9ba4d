"""Inputs on which an engine is compared with ONNX Runtime: what services send, from the release's own files.

Knows the meaning of the contract's input names, and a release; neither TensorRT nor what a model computes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.limits import MAX_ADAPTER_SCALE
from contract.release import Release
from contract.tokens import PromptTokenizer
from deploy.releases.model_config import dtype_of

Arrays = dict[str, NDArray[Any]]
GUIDANCE = 10.0  # the largest one drawn, as the export's samples have


class Samples:
    """Draws batches for one model of a release; the same seed draws the same."""

    def __init__(self, release: Release, config: Any, seed: int = 0) -> None:
        self._release, self._config, self._random = release, config, np.random.default_rng(seed)
        steps = release.manifest.noise_schedule.num_train_timesteps
        self._makers: dict[str, Callable[[tuple[int, ...]], NDArray[Any]]] = {
            "input_ids": self._prompts,
            "features": self._profiles,
            "image": self._pictures,
            "timestep": lambda shape: self._random.integers(steps, size=shape),
            "guidance": lambda shape: self._random.uniform(0, GUIDANCE, shape),
            "adapter_scale": lambda shape: self._random.uniform(0, MAX_ADAPTER_SCALE, shape),
        }

    @property
    def largest(self) -> int:
        """The largest batch that the model takes."""
        return max(int(self._config.max_batch_size), 1)

    def draw(self, batch: int) -> Arrays:
        """One batch, input by input; what has no maker is normal: latents, text states, vectors of merchants."""
        drawn = {}
        for tensor in self._config.input:
            shape = (batch, *tensor.dims)
            make = self._makers.get(tensor.name, self._random.standard_normal)
            drawn[tensor.name] = np.ascontiguousarray(make(shape), dtype_of(tensor))
        return drawn

    def _prompts(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Of up to seven phrases, an empty one, and one that is longer than fits, in turn."""
        reward = self._config.name.startswith("reward")
        file = self._release.reward_tokenizer_file if reward else self._release.tokenizer_file
        tokenizer = PromptTokenizer(file.read_text(encoding="utf-8"), shape[1])
        phrases = [phrase for _, phrase in self._release.vocabulary.phrases]
        counts = [(int(self._random.integers(1, 8)), 0, 100)[row % 3] for row in range(shape[0])]
        return tokenizer.encode([",".join(self._random.choice(phrases, count)) for count in counts])

    def _profiles(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Every third the empty profile; and numbers beyond the slots in use, which the graph must ignore."""
        found = self._random.integers(100, size=shape)
        schema = self._release.feature_schema
        for feature, slots in zip(schema.features, schema.slices, strict=True):
            found[:, slots] = self._random.integers(feature.n_rows, size=(shape[0], feature.n_slots))
        found[::3, : schema.n_slots] = 0
        return found

    def _pictures(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Patches as in real pictures, noise, and one colour in turn."""
        batch, height, width, channels = shape
        pictures = np.empty(shape, np.uint8)
        for row in range(batch):
            side = (4, height, 1)[row % 3]
            colours = self._random.integers(256, size=(side, side, channels))
            pictures[row] = colours.repeat(-(-height // side), 0)[:height].repeat(-(-width // side), 1)[:, :width]
        return pictures
