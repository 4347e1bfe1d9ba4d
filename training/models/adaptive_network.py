"""The personalised adaptive network (PAN, Sec. 4.3): a ControlNet whose hint is the merchant's profile.

Computes residuals for a frozen U-Net's skips and middle output from (z_t, t, text, user). Its 14
zero convolutions make it a no-op before training. Does not hold the U-Net, and knows nothing
about guidance, samplers or losses.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from training.common.errors import WeightsError
from training.common.storage import check_origin, load_weights, origin_of, read_config, save_weights, write_origin
from training.models.feature_crossing import FeatureSchema, UserEncoder
from training.models.frozen_unet import Residuals, check_topology, share_text

WEIGHTS_FILE = "adapter.safetensors"
UNET_KEYS = (  # these determine the copy's shape; an adapter fits U-Nets that agree in them
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "num_attention_heads",
    "norm_num_groups",
    "use_linear_projection",
    "flip_sin_to_cos",
    "freq_shift",
    "transformer_layers_per_block",
    "only_cross_attention",
    "downsample_padding",
    "mid_block_scale_factor",
    "act_fn",
    "norm_eps",
    "upcast_attention",
    "resnet_time_scale_shift",
)


class NoHint(nn.Module):
    """Replaces a ControlNet's embedding of its hint: adds nothing and has no parameters."""

    def forward(self, conditioning: Tensor) -> Tensor:
        return conditioning.new_zeros(1)


class PersonalisedAdaptiveNetwork(nn.Module):
    """User encoder, user map, input zero convolution, and the trainable copy of the encoder."""

    def __init__(
        self,
        copy: ControlNetModel,
        schema: FeatureSchema,
        latent_size: int,
        embed_dim: int = 8,
        n_cross_layers: int = 2,
        *,
        origin: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.origin = origin  # of the U-Net
        channels = copy.config.in_channels
        self.latent_shape = (channels, latent_size, latent_size)  # (C, H, W)
        self.user_encoder = UserEncoder(schema, embed_dim, n_cross_layers)
        self.user_map = nn.Linear(self.user_encoder.width, channels * latent_size**2)
        self.input_zero_conv = _zero_conv(channels)
        self.copy = copy
        self.copy.controlnet_cond_embedding = NoHint()

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        schema: FeatureSchema,
        embed_dim: int = 8,
        n_cross_layers: int = 2,
    ) -> "PersonalisedAdaptiveNetwork":
        """Before training: the copies equal the U-Net's blocks and every output is zero."""
        check_topology(unet)
        copy = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(1, 1))
        copy.requires_grad_(True)
        share_text(copy)
        return cls(copy, schema, unet.config.sample_size, embed_dim, n_cross_layers, origin=origin_of(unet))

    def zero_convs(self) -> list[nn.Conv2d]:
        """All 14: the input's, the 12 skips', the middle's."""
        skips = list(self.copy.controlnet_down_blocks)
        return [self.input_zero_conv, *skips, self.copy.controlnet_mid_block]

    def represent(self, user: Tensor) -> Tensor:
        """u_gen from encoded features INT64 (G, F); a float input is u_gen (G, d) already."""
        return user if user.is_floating_point() else self.user_encoder(user)

    def forward(self, z_t: Tensor, t: Tensor, text: Tensor, user: Tensor, scale: float | Tensor = 1.0) -> Residuals:
        """Sec. 4.3, steps 1–3.

        Args:
            z_t, t: (B, C, S, S), (B,).
            text: (G, 77, D), a row for B/G neighbours.
            user: INT64 (G, F) features or (G, d) u_gen, a row for B/G neighbours; G need not be the text's.
            scale: of all residuals, one number or one each (B,).
        """
        u = self.represent(user)  # (G, d)
        m = self.user_map(u).unflatten(1, self.latent_shape)  # (G, C, H, W)
        z_prime = z_t + _for_each(self.input_zero_conv(m), z_t.shape[0])  # before the copy's first convolution
        skips, middle = self.copy(z_prime, t, encoder_hidden_states=text, controlnet_cond=z_t, return_dict=False)
        if isinstance(scale, Tensor):
            scale = scale.view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        return Residuals(tuple(skip * scale for skip in skips), middle * scale)

    def save(self, directory: Path) -> None:
        """config.json and the weights."""
        config = {
            "latent_size": self.latent_shape[1],
            "embed_dim": self.user_encoder.embed_dim,
            "n_cross_layers": self.user_encoder.n_layers,
            "schema": self.user_encoder.schema.to_json(),
            "unet": _shape_config(self.copy),
        }
        save_weights(directory, WEIGHTS_FILE, config, self.state_dict())
        write_origin(directory, self.origin)

    @classmethod
    def load(
        cls, directory: Path, unet: UNet2DConditionModel, schema: FeatureSchema | None = None
    ) -> "PersonalisedAdaptiveNetwork":
        """An adapter for this U-Net, on which it must have been trained; `schema`, if given, must be its own."""
        config = read_config(directory)
        if missing := {"latent_size", "embed_dim", "n_cross_layers", "schema", "unet"} - config.keys():
            raise WeightsError(f"{directory} is not an adapter: its config.json lacks {sorted(missing)}")
        own_schema = FeatureSchema.from_json(config["schema"])
        _check_fit(directory, config, unet, own_schema, schema)
        network = cls.from_unet(unet, own_schema, config["embed_dim"], config["n_cross_layers"])
        check_origin(directory, network.origin)
        load_weights(network, set(network.state_dict()), directory / WEIGHTS_FILE)
        return network


def _for_each(rows: Tensor, n: int) -> Tensor:
    """Repeats each row for its neighbours, to n rows. By shape: to an exporter `len` makes any size a constant."""
    return rows if rows.shape[0] == n else rows.repeat_interleave(n // rows.shape[0], 0)


def _zero_conv(channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, kernel_size=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


def _shape_config(model: nn.Module) -> dict[str, Any]:
    config = model.config
    return {key: _as_json(config.get(key)) for key in UNET_KEYS}


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        items = [_as_json(item) for item in value]
        return items[0] if len(set(map(str, items))) == 1 else items  # [1, 1, 1, 1] is the same as 1
    return value


def _check_fit(
    directory: Path,
    config: dict[str, Any],
    unet: UNet2DConditionModel,
    own_schema: FeatureSchema,
    schema: FeatureSchema | None,
) -> None:
    if config["latent_size"] != unet.config.sample_size:
        ours, theirs = config["latent_size"], unet.config.sample_size
        raise WeightsError(f"{directory} was trained for {ours}×{ours} latents, the U-Net makes {theirs}×{theirs}")
    found = _shape_config(unet)
    differing = [key for key, value in config["unet"].items() if found[key] != value]
    if differing:
        raise WeightsError(f"{directory} was trained for another U-Net; differing: {differing}")
    if schema is not None and (differs := own_schema.difference(schema)):
        raise WeightsError(f"{directory} was trained with another feature schema: {differs}")
