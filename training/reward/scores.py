"""A reward model's scores of every candidate of every group.

Knows the model and the groups; nothing about losses, optimizers or metrics.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.common.errors import WeightsError
from training.data.groups import GroupError, GroupTensors
from training.models.family import FamilyPaths
from training.models.preprocess import Preprocess
from training.reward.baselines.image_reward import ImageReward
from training.reward.models import Starts, load
from training.reward.recipes import Model


@dataclass(frozen=True)
class RewardScorer:
    """A reward model, (pixels, input_ids, features) → (B, K), with its preprocessing, on a device."""

    model: nn.Module
    preprocess: Preprocess
    device: torch.device
    bf16: bool = False  # autocast; scores stay in fp32

    def __post_init__(self) -> None:
        """Refuses pictures of a size that the model does not read."""
        if isinstance(self.model, ImageReward):
            reads, given = self.model.vision.config.image_size, self.preprocess.size_px
            if reads != given:
                raise WeightsError(f"the BLIP reads pictures of {reads} pixels, and the family's have {given}")

    @classmethod
    def of(cls, family: FamilyPaths, name: Model = "perfusion_rm") -> "RewardScorer":
        """The trained model at the family's path of PerFusionRM, under its name, on the family's backbone."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        clip = family.clip()
        schema = family.schema() if family.feature_schema.exists() else None
        starts = Starts(clip, tokenizer=family.reward_tokenizer())
        model = load(name, family.perfusion_rm.with_name(name), starts, schema)
        return cls(model.eval().requires_grad_(False).to(device), family.preprocess(clip).to(device), device)

    def batch(self, groups: GroupTensors, rows: np.ndarray, wordings: np.ndarray, features: Tensor) -> Tensor:
        """exp(logit_scale)·cos of every candidate (B, K), fp32, for encoded profiles (B, F)."""
        if groups.images is None:
            raise GroupError("a reward model reads images; these groups have none")
        images = torch.tensor(groups.images[rows], device=self.device)  # (B, K, H, W, 3)
        pixels = self.preprocess(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        ids = torch.tensor(groups.input_ids[rows, wordings], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            scores: Tensor = self.model(pixels, ids, features.to(self.device))
        return scores.float()

    @torch.inference_mode()
    def all(self, groups: GroupTensors, features: np.ndarray | None = None, batch_size: int = 64) -> np.ndarray:
        """Scores (N, K) with prompts as written and each group's own features, or with these (N, F)."""
        features = groups.features if features is None else features
        parts = np.array_split(np.arange(len(groups)), -(-len(groups) // batch_size))
        scores = [
            self.batch(groups, rows, np.zeros(len(rows), int), torch.tensor(features[rows])).cpu().numpy()
            for rows in parts
        ]
        return np.concatenate(scores)
