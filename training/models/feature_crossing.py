"""Feature crossing: a merchant's encoded profile becomes the user representation u (Eq. 2).

Embeddings, one table per feature, are concatenated to v_0 and crossed by DCN-v2 layers with
full matrices. Knows nothing about the use of u.
"""

import torch
from torch import Tensor, nn

from contract.feature_schema import Feature, FeatureSchema

__all__ = ["Feature", "FeatureSchema", "UserEncoder", "drop_features"]


class FeatureEmbedding(nn.Module):
    """One feature's table. A multi-valued feature is the mean of its values' rows."""

    def __init__(self, feature: Feature, embed_dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(feature.n_rows, embed_dim)

    def forward(self, slots: Tensor) -> Tensor:  # (B, n_slots) -> (B, E)
        rows = self.table(slots)  # (B, n_slots, E)
        if slots.shape[1] == 1:
            return rows[:, 0]
        present = (slots != 0).unsqueeze(-1)  # (B, n_slots, 1)
        count = present.sum(1)  # (B, 1)
        mean = (rows * present).sum(1) / count.to(rows.dtype).clamp(min=1)  # TensorRT clamps no integers
        return torch.where(count > 0, mean, rows[:, 0])  # all padding: the trained "unknown", row 0


class CrossLayer(nn.Module):
    """Eq. 2: v_{l+1} = v_0 ⊙ (W_l v_l + b_l) + v_l with a full d×d matrix W_l."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, v_0: Tensor, v_l: Tensor) -> Tensor:
        return v_0 * self.linear(v_l) + v_l


class UserEncoder(nn.Module):
    """Features INT64[F] → u FP32[d], d = number of features × embed_dim."""

    def __init__(self, schema: FeatureSchema, embed_dim: int = 8, n_layers: int = 2) -> None:
        super().__init__()
        self.schema, self.embed_dim, self.n_layers = schema, embed_dim, n_layers
        self.width = len(schema.features) * embed_dim
        self.embeddings = nn.ModuleList(FeatureEmbedding(f, embed_dim) for f in schema.features)
        self.layers = nn.ModuleList(CrossLayer(self.width) for _ in range(n_layers))

    def forward(self, features: Tensor) -> Tensor:  # (B, F) -> (B, d)
        parts = [embed(features[:, where]) for embed, where in zip(self.embeddings, self.schema.slices, strict=True)]
        v_0 = v = torch.cat(parts, dim=1)  # (B, d)
        for layer in self.layers:
            v = layer(v_0, v)
        return v


def drop_features(features: Tensor, schema: FeatureSchema, p: float, generator: torch.Generator) -> Tensor:
    """Hide each whole feature with probability p, so that row 0 learns to mean "unknown"."""
    if p == 0:
        return features
    hidden = torch.rand(len(features), len(schema.features), generator=generator) < p  # (B, n)
    repeats = torch.tensor([feature.n_slots for feature in schema.features])
    return features.masked_fill(hidden.repeat_interleave(repeats, 1).to(features.device), 0)
