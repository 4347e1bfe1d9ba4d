"""Inputs to compare torch and ONNX Runtime on: realistic ones, and the limits of the allowed range.

Made from a model's contract and the family's own tokenizer, phrases and schema. Knows the meaning
of the contract's input names, nothing of the models.
"""

import torch
from torch import Tensor

from training.exporting.tensor_contract import Contract, TensorSpec
from training.models.family import FamilyPaths


class Samples:
    """Draws inputs for any model of the contract; the same seed draws the same."""

    def __init__(self, paths: FamilyPaths, model: str, seed: int = 0) -> None:
        self.paths, self.generator = paths, torch.Generator().manual_seed(seed)
        self.is_reward = model.startswith("reward")
        self.makers = {
            "input_ids": self._prompts,
            "features": self._features,
            "image": self._pictures,
            "timestep": self._timesteps,
            "guidance": lambda b, spec: self._uniform(b, spec) * 10,
            "adapter_scale": lambda b, spec: (self._uniform(b, spec) * 3).floor(),  # 0, 1 or 2
        }

    def draw(self, contract: Contract, batch_size: int) -> tuple[Tensor, ...]:
        """One batch, inputs in the contract's order."""
        normal = self._normal  # latents, text states, user representations and noise
        return tuple(self.makers.get(spec.name, normal)(batch_size, spec) for spec in contract.inputs)

    def _normal(self, batch_size: int, spec: TensorSpec) -> Tensor:
        return torch.randn(batch_size, *spec.shape, generator=self.generator)

    def _uniform(self, batch_size: int, spec: TensorSpec) -> Tensor:
        return torch.rand(batch_size, *spec.shape, generator=self.generator)

    def _integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def _timesteps(self, batch_size: int, spec: TensorSpec) -> Tensor:
        last = self.paths.noise_scheduler().config.num_train_timesteps - 1
        steps = self._integers(last + 1, batch_size, *spec.shape)
        steps[0], steps[-1] = last, 0
        return steps

    def _pictures(self, batch_size: int, spec: TensorSpec) -> Tensor:
        """Noise, and coarse patches as in real pictures; one all black."""
        height, width, channels = spec.shape
        coarse = self._integers(256, batch_size, channels, 4, 4).to(torch.uint8)
        pictures = torch.nn.functional.interpolate(coarse, (height, width)).permute(0, 2, 3, 1)
        noise = self._integers(256, batch_size, *spec.shape).to(torch.uint8)
        pictures = torch.where(torch.arange(batch_size).view(-1, 1, 1, 1) % 2 == 0, pictures, noise)
        pictures[-1] = 0
        return pictures.contiguous()

    def _features(self, batch_size: int, spec: TensorSpec) -> Tensor:
        schema = self.paths.schema()
        rows = [self._integers(feature.n_rows, batch_size, feature.n_slots) for feature in schema.features]
        features = torch.cat(rows, dim=1)
        features[-1] = 0  # the empty profile
        beyond = self._integers(100, batch_size, spec.shape[0] - schema.n_slots)  # the graph must ignore these
        return torch.cat([features, beyond], dim=1)  # (B, F)

    def _prompts(self, batch_size: int, spec: TensorSpec) -> Tensor:
        """Prompts of random phrases; the first empty, the last longer than fits."""
        tokenizer = self.paths.reward_tokenizer() if self.is_reward else self.paths.tokenizer()
        phrases = [phrase for _, phrase in self.paths.vocabulary().phrases]
        counts = [0, *self._integers(8, batch_size).tolist()][:batch_size]
        if batch_size > 2:
            counts[-1] = 100
        prompts = [",".join(phrases[i] for i in self._integers(len(phrases), count).tolist()) for count in counts]
        (length,) = spec.shape
        encoded = tokenizer(prompts, padding="max_length", truncation=True, max_length=length)
        return torch.tensor(encoded["input_ids"])
