"""Inputs to compare torch and ONNX Runtime on: realistic ones, and the limits of the allowed range.

Made from a model's contract and the family's own tokenizer, phrases and schema. Knows the meaning
of the contract's input names, nothing of the models.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from training.exporting.tensor_contract import Contract, TensorSpec
from training.models.family import FamilyPaths
from training.models.tokens import encode


class Samples:
    """Draws inputs for any model of the contract; the same seed draws the same.

    Samples count on from batch to batch, so that small batches have every kind, too.
    """

    def __init__(self, paths: FamilyPaths, model: str, seed: int = 0) -> None:
        self.paths, self.generator = paths, torch.Generator().manual_seed(seed)
        self.is_reward = model.startswith("reward")
        self.drawn = 0
        self.makers = {
            "input_ids": self._prompts,
            "features": self._features,
            "image": self._pictures,
            "timestep": self._timesteps,
            "guidance": lambda rows, spec: self._uniform(rows, spec) * 10,
            "adapter_scale": lambda rows, spec: (self._uniform(rows, spec) * 3).floor(),  # 0, 1 or 2
        }

    def draw(self, contract: Contract, batch_size: int) -> tuple[Tensor, ...]:
        """One batch, inputs in the contract's order."""
        rows = range(self.drawn, self.drawn + batch_size)
        self.drawn += batch_size
        normal = self._normal  # latents, text states, user representations and noise
        return tuple(self.makers.get(spec.name, normal)(rows, spec) for spec in contract.inputs)

    def _normal(self, rows: range, spec: TensorSpec) -> Tensor:
        return torch.randn(len(rows), *spec.shape, generator=self.generator)

    def _uniform(self, rows: range, spec: TensorSpec) -> Tensor:
        return torch.rand(len(rows), *spec.shape, generator=self.generator)

    def _integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def _timesteps(self, rows: range, spec: TensorSpec) -> Tensor:
        """The last, the first and any in turn."""
        last = self.paths.noise_scheduler().config.num_train_timesteps - 1
        steps = self._integers(last + 1, len(rows), *spec.shape)
        kinds = torch.tensor(rows).view(-1, 1) % 3
        return steps.where(kinds == 2, last * (kinds == 0).long())

    def _pictures(self, rows: range, spec: TensorSpec) -> Tensor:
        """Patches as in real pictures, noise, black, a gradient, one colour and white in turn."""
        height, width, channels = spec.shape
        drawn = ((4, 4), (height, width), (1, 1), (2, 2), (1, 1), (1, 1))  # how many colours each has
        pictures = []
        for kind in (row % len(drawn) for row in rows):
            colours = self._integers(256, 1, channels, *drawn[kind]).float()
            colours = {2: colours * 0, 5: colours * 0 + 255}.get(kind, colours)
            pictures.append(interpolate(colours, (height, width), mode="bilinear" if kind == 3 else "nearest"))
        return torch.cat(pictures).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _features(self, rows: range, spec: TensorSpec) -> Tensor:
        """Every third the empty profile; and garbage beyond the slots in use, which the graph must ignore."""
        schema = self.paths.schema()
        codes = [self._integers(feature.n_rows, len(rows), feature.n_slots) for feature in schema.features]
        known = torch.tensor(rows).view(-1, 1) % 3 != 0
        beyond = self._integers(100, len(rows), spec.shape[0] - schema.n_slots)
        return torch.cat([*(code * known for code in codes), beyond], dim=1)  # (B, F)

    def _prompts(self, rows: range, spec: TensorSpec) -> Tensor:
        """Of up to seven random phrases, an empty one, and one longer than fits in turn."""
        tokenizer = self.paths.reward_tokenizer() if self.is_reward else self.paths.tokenizer()
        phrases = [phrase for _, phrase in self.paths.vocabulary().phrases]
        counts = [
            (some, 0, 100)[row % 3] for row, some in zip(rows, self._integers(8, len(rows)).tolist(), strict=True)
        ]
        prompts = [",".join(phrases[i] for i in self._integers(len(phrases), count).tolist()) for count in counts]
        return torch.from_numpy(encode(tokenizer, prompts, *spec.shape))
