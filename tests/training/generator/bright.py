"""A preference whose direction is known, and the smallest SPO."""

import torch
from torch import Tensor

from training.generator.spo import SpoRecipe

SPO = SpoRecipe(
    rounds=2, prompts=4, candidates=3, denoising_steps=4, first_step=1, guidance=2.0, threshold=0.0, pairs_per_batch=8
)
CPU = torch.device("cpu")


class Bright:
    """A critic that likes bright latents; its model is not asked."""

    def __init__(self, like: torch.nn.Module) -> None:
        self.model = like

    def __call__(self, z_0: Tensor, t: Tensor, input_ids: Tensor) -> Tensor:
        return 40 * z_0.mean((2, 3, 4))
