"""PerFusionRM's plug-in for one CLIP tower: feature crossing and adaptive networks (Eq. 2, 4).

Gives, for every Transformer layer, the addition to its attention output and to its feed-forward
output. Knows the number and width of the layers, nothing else about the tower.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from training.models.feature_crossing import FeatureSchema, UserEncoder


@dataclass(frozen=True)
class PluginShape:
    """Sizes of a plug-in; embed_dim × number of features is d, the width of u."""

    embed_dim: int = 8
    n_cross_layers: int = 2
    adaptive_hidden: int = 32  # width between the two linear layers of an adaptive network


class AdaptiveNetwork(nn.Sequential):
    """Eq. 4: a^l = MLP^l(u), two linear layers with GELU between; the last starts at zero."""

    def __init__(self, user_width: int, hidden: int, out_width: int) -> None:
        last = nn.Linear(hidden, out_width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(nn.Linear(user_width, hidden), nn.GELU(), last)


class TowerPlugin(nn.Module):
    """One feature crossing, and two adaptive networks for each layer of a tower."""

    def __init__(self, schema: FeatureSchema, n_layers: int, width: int, shape: PluginShape) -> None:
        super().__init__()
        self.user_encoder = UserEncoder(schema, shape.embed_dim, shape.n_cross_layers)
        d = self.user_encoder.width
        self.attention = nn.ModuleList(AdaptiveNetwork(d, shape.adaptive_hidden, width) for _ in range(n_layers))
        self.feed_forward = nn.ModuleList(AdaptiveNetwork(d, shape.adaptive_hidden, width) for _ in range(n_layers))

    def represent(self, user: Tensor) -> Tensor:
        """u from encoded features INT64 (B, F); a float input is u (B, d) already."""
        return user if user.is_floating_point() else self.user_encoder(user)

    def additions(self, user: Tensor, n_layers: int, width: int) -> list[tuple[Tensor, Tensor]]:
        """(a_att^l, a_ffn^l) for the first n_layers, cut to width: a shared plug-in serves two."""
        u = self.represent(user)  # (B, d)
        pairs = zip(self.attention[:n_layers], self.feed_forward[:n_layers], strict=True)
        return [(att(u)[:, None, :width], ffn(u)[:, None, :width]) for att, ffn in pairs]
