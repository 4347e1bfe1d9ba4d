"""PerFusionRM (Sec. 4.2): any transformers `CLIPModel`, made personal by plug-ins.

The backbone is frozen and not forked: forward hooks add the plug-ins' outputs to those of every
attention and feed-forward block (Eq. 5). Before training it is bit-identical to the backbone.
Knows nothing about images on disk, tokenizers or losses.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPModel

from contract.feature_schema import FeatureSchema
from training.common.errors import TopologyError, WeightsError
from training.common.storage import check_origin, load_weights, origin_of, read_config, save_weights, write_origin
from training.models.plugin import PluginShape, TowerPlugin
from training.models.tokens import without_padding

WEIGHTS_FILE = "plugin.safetensors"
Variant = Literal["full", "shared", "vision_only", "text_only"]
VARIANTS: tuple[Variant, ...] = ("full", "shared", "vision_only", "text_only")


@dataclass(frozen=True)
class RewardConfig:
    """Which towers get a plug-in, and its sizes."""

    variant: Variant = "full"  # shared: one plug-in serves both towers; the others are ablations
    plugin: PluginShape = field(default_factory=PluginShape)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise TopologyError(f"unknown variant {self.variant!r}; one of {', '.join(VARIANTS)}")


class Injector:
    """Hooks on one tower's layers; adds the current `additions` (Eq. 5)."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers = layers
        self.additions: list[tuple[Tensor, Tensor]] = []
        for index, layer in enumerate(layers):
            layer.self_attn.register_forward_hook(self._after_attention(index))
            layer.mlp.register_forward_hook(self._after_feed_forward(index))

    def _after_attention(self, index: int) -> Any:
        def add(_: nn.Module, __: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any] | None:
            if not self.additions:
                return None
            return output[0] + self.additions[index][0].to(output[0].dtype), *output[1:]

        return add

    def _after_feed_forward(self, index: int) -> Any:
        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            return output + self.additions[index][1].to(output.dtype) if self.additions else None

        return add

    @contextmanager
    def adding(self, additions: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
        """Adds these during one pass. Checkpointed layers run again in the backward pass, so theirs stay."""
        self.additions = additions
        yield
        if not any(getattr(layer, "gradient_checkpointing", False) for layer in self.layers):
            self.additions = []


class PerFusionRM(nn.Module):
    """r(x, y, u) = cos(E_img(x; u), E_txt(y; u)), reported as exp(logit_scale)·r (Eq. 6).

    The frozen backbone may be in bfloat16; plug-ins, cosines and scores are float32 in any case.
    """

    def __init__(self, clip: CLIPModel, schema: FeatureSchema, config: RewardConfig | None = None) -> None:
        super().__init__()
        self.config, self.schema = config or RewardConfig(), schema
        self.clip = clip.eval().requires_grad_(False)
        self.plugins = nn.ModuleDict(_make_plugins(clip, schema, self.config))
        self._end_id = clip.config.text_config.eos_token_id
        self._injectors = {
            "text": Injector(clip.text_model.encoder.layers),
            "vision": Injector(clip.vision_model.encoder.layers),
        }

    def train(self, mode: bool = True) -> "PerFusionRM":
        super().train(mode)
        self.clip.train(False)  # the frozen backbone stays in evaluation mode
        for layer in (*self.clip.text_model.encoder.layers, *self.clip.vision_model.encoder.layers):
            layer.training = mode and layer.gradient_checkpointing  # or transformers would not checkpoint it
        return self

    @property
    def user_width(self) -> int:
        """d, of u; every tower's plug-in has the same."""
        return len(self.schema.features) * self.config.plugin.embed_dim

    def plugin_of(self, tower: str) -> TowerPlugin | None:
        name = "shared" if self.config.variant == "shared" else tower
        return dict(self.plugins.items()).get(name)

    def represent(self, tower: str, features: Tensor) -> Tensor:
        """u of one tower, (B, F) → (B, d); without a plug-in there, the other tower's u."""
        plugin = self.plugin_of(tower) or next(iter(self.plugins.values()))
        u: Tensor = plugin.represent(features)
        return u

    def embed_text(self, input_ids: Tensor, user: Tensor | None) -> Tensor:
        """E_txt(y; u), unit length: (B, 77), (B, F or d) → (B, e). No user: the plain backbone."""
        with self._personal("text", user):
            pooled = self.clip.text_model(input_ids=input_ids).pooler_output
        return normalize(self.clip.text_projection(pooled).float(), dim=-1)

    def embed_image(self, pixels: Tensor, user: Tensor | None) -> Tensor:
        """E_img(x; u), unit length: (B, 3, H, W) normalised, (B, F or d) → (B, e)."""
        with self._personal("vision", user):
            pooled = self.clip.vision_model(pixel_values=pixels.to(self.clip.dtype)).pooler_output
        return normalize(self.clip.visual_projection(pooled).float(), dim=-1)

    def forward(self, pixels: Tensor, input_ids: Tensor, features: Tensor | None) -> Tensor:
        """Scores of groups: (B, K, 3, H, W), (B, 77), (B, F) → (B, K) exp(logit_scale)·cos.

        Each text and each user is encoded once per group, however many images the group has.
        """
        k = pixels.shape[1]
        plugin = self.plugin_of("vision")
        user = None if features is None or plugin is None else plugin.represent(features)  # (B, d)
        per_image = None if user is None else user.repeat_interleave(k, 0)  # (B·K, d)
        images = self.embed_image(pixels.flatten(0, 1), per_image).unflatten(0, (-1, k))
        texts = self.embed_text(without_padding(input_ids, self._end_id), features)  # (B, e)
        return self.clip.logit_scale.float().exp() * (images * texts.unsqueeze(1)).sum(-1)  # (B, K)

    def _personal(self, tower: str, user: Tensor | None) -> AbstractContextManager[None]:
        plugin = self.plugin_of(tower)
        personal = user is not None and plugin is not None
        additions = plugin.additions(user, *_tower_size(self.clip, tower)) if personal else []
        return self._injectors[tower].adding(additions)

    def save(self, directory: Path) -> None:
        """The plug-ins only; the backbone keeps its own directory."""
        config = asdict(self.config) | {"schema": self.schema.to_json()}
        save_weights(directory, WEIGHTS_FILE, config, self.plugins.state_dict())
        write_origin(directory, origin_of(self.clip))

    @classmethod
    def load(cls, directory: Path, clip: CLIPModel, schema: FeatureSchema | None = None) -> "PerFusionRM":
        """Plug-ins for this backbone, on which they must have been trained; `schema`, if given, must be theirs."""
        data = read_config(directory)
        check_origin(directory, origin_of(clip))
        own_schema = FeatureSchema.from_json(data["schema"])
        if schema is not None and (differs := own_schema.difference(schema)):
            raise WeightsError(f"{directory} was trained with another feature schema: {differs}")
        config = RewardConfig(data["variant"], PluginShape(**data["plugin"]))
        model = cls(clip, own_schema, config)
        load_weights(model.plugins, set(model.plugins.state_dict()), directory / WEIGHTS_FILE)
        return model


def _tower_size(clip: CLIPModel, tower: str) -> tuple[int, int]:
    """(number of layers, width) of "text" or "vision"."""
    config = clip.config.text_config if tower == "text" else clip.config.vision_config
    return config.num_hidden_layers, config.hidden_size


def _make_plugins(clip: CLIPModel, schema: FeatureSchema, config: RewardConfig) -> dict[str, nn.Module]:
    sizes = {tower: _tower_size(clip, tower) for tower in ("text", "vision")}
    if config.variant == "shared":  # as deep and wide as the larger tower; the other uses a part
        sizes = {"shared": tuple(map(max, *sizes.values()))}
    elif config.variant != "full":
        sizes = {tower: size for tower, size in sizes.items() if config.variant.startswith(tower)}
    return {name: TowerPlugin(schema, *size, config.plugin) for name, size in sizes.items()}
