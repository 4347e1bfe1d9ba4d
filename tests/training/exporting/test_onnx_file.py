"""Exporting one graph: a dynamic batch, the same numbers, and refusals."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import onnx
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPModel

from contract.feature_schema import FeatureSchema
from tests.training.loud import make_loud
from training.exporting.errors import ContractError, ExportError, NumericalError
from training.exporting.family_contracts import write_contracts
from training.exporting.float64 import InFloat64
from training.exporting.graphs import PictureEncoder, RewardText
from training.exporting.onnx_file import TOLERANCE, export_onnx, verify
from training.exporting.samples import Samples
from training.exporting.tensor_contract import Contract, TensorSpec, read_contract
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.denoiser import PersonalisedDenoiser
from training.models.family import FamilyPaths
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM, RewardConfig

COMMITTED = Path("model_repository").absolute()
LINEAR = Contract("linear", 8, (TensorSpec("x", "FP32", (3,)),), (TensorSpec("linear", "FP32", (2,)),))


def draw(contract: Contract, batch_size: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(batch_size, *spec.shape) for spec in contract.inputs)


def test_the_batch_is_dynamic_and_an_output_may_be_named_like_an_operator(tmp_path: Path) -> None:
    verified = export_onnx(nn.Linear(3, 2), LINEAR, draw, tmp_path / "model.onnx")  # checks batches 1, 3 and 8
    assert verified.max_abs_error <= 1e-6
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert str(Path(__file__).parents[3]).encode() not in (tmp_path / "model.onnx").read_bytes()


def test_a_graph_of_other_shapes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"outputs are linear FP32\[4\]"):
        export_onnx(nn.Linear(3, 4), LINEAR, draw, tmp_path / "model.onnx")


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    export_onnx(nn.Linear(3, 2), LINEAR, draw, tmp_path / "model.onnx")
    with pytest.raises(
        NumericalError, match=r"linear: output linear of sample \d of a batch of \d \(x .*\): ONNX Runtime lies"
    ):
        verify(nn.Linear(3, 2), LINEAR, draw, tmp_path / "model.onnx")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = nn.Linear(3, 2)
    nn.init.constant_(broken.bias, float("nan"))
    with pytest.raises(NumericalError):
        export_onnx(broken, LINEAR, draw, tmp_path / "model.onnx")


class FineThenBroken(nn.Module):
    """Two outputs; the second is NaN from three rows on."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        few = torch.ones_like(x[:, 0]).sum() < 3
        return x * 2, torch.where(few, x, torch.nan)


def test_one_output_of_several_that_is_not_finite_at_one_size_is_refused(tmp_path: Path) -> None:
    outputs = (TensorSpec("fine", "FP32", (3,)), TensorSpec("broken", "FP32", (3,)))
    contract = Contract("two", 8, LINEAR.inputs, outputs)
    with pytest.raises(
        NumericalError,
        match="two: output broken of sample . of a batch of 3 .* lies inf from torch.* torch itself gives no finite",
    ):
        export_onnx(FineThenBroken(), contract, draw, tmp_path / "model.onnx")


def picture_encoder(seed: int) -> PictureEncoder:
    """Random weights; a group of its own for every channel amplifies rounding most."""
    torch.manual_seed(seed)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**levels, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=8, sample_size=128)
    return PictureEncoder(vae.eval().requires_grad_(False))


ENCODER = Contract(
    "vae_encoder", 4, (TensorSpec("image", "UINT8", (128, 128, 3)),), (TensorSpec("latents", "FP32", (4, 16, 16)),)
)


@pytest.fixture(scope="module")
def exported_encoder(family: FamilyPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "model.onnx"
    verified = export_onnx(picture_encoder(0), ENCODER, Samples(family, "vae_encoder").draw, path)
    assert verified.max_abs_error <= verified.tolerance
    return path


@torch.inference_mode()
@pytest.mark.usefixtures("exported_encoder")  # it was exported, although
def test_pictures_of_one_colour_may_differ_as_much_as_torchs_own_rounding(family: FamilyPaths) -> None:
    module, (pictures,) = picture_encoder(0), Samples(family, "vae_encoder").draw(ENCODER, 6)
    in_float32 = module(pictures)
    with InFloat64():
        in_float64 = module(pictures)
    assert in_float64.dtype == torch.float64
    own = (in_float32 - in_float64).abs().flatten(1).amax(1)
    assert own.max() > 10 * TOLERANCE, "or this would not be the case at issue"
    assert own[1] < TOLERANCE, "noise is not amplified"


@pytest.mark.parametrize(
    "part", ["encoder.conv_in.weight", "encoder.conv_out.bias", "encoder.mid_block.resnets.0.norm1.weight"]
)
@torch.inference_mode()
def test_a_graph_of_other_weights_is_refused_all_the_same(
    exported_encoder: Path, family: FamilyPaths, part: str
) -> None:
    other = picture_encoder(0)
    other.vae.get_parameter(part).view(-1)[0] += 0.01
    told = r"vae_encoder: output latents of sample \d of a batch of \d \(image .*\): ONNX Runtime lies .* is allowed"
    with pytest.raises(NumericalError, match=told + " and torch in float32 lies .* export with the versions"):
        verify(other, ENCODER, Samples(family, "vae_encoder").draw, exported_encoder)


def test_a_denoiser_with_an_adapter_gives_torchs_numbers(
    family: FamilyPaths,
    make_unet: Callable[..., UNet2DConditionModel],
    schema: FeatureSchema,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two levels, one layer each: as every kind of block is there, a fifth of the nodes of a whole U-Net."""
    monkeypatch.setattr("training.models.adaptive_network.check_topology", lambda unet: None)
    kinds = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    unet = make_unet(**kinds, block_out_channels=(8, 16), layers_per_block=1)
    network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema))
    write_contracts(family, COMMITTED, tmp_path)
    contract, drawn = read_contract(tmp_path, "denoiser"), Samples(family, "denoiser").draw
    export_onnx(PersonalisedDenoiser(unet, network), contract, drawn, tmp_path / "model.onnx")
    with pytest.raises(NumericalError):
        verify(PersonalisedDenoiser(unet, None), contract, drawn, tmp_path / "model.onnx")


@pytest.mark.parametrize(("off", "refused"), [(0.6, False), (1.6, True)])
def test_pixels_may_round_to_their_neighbours_but_not_further(off: float, refused: bool, tmp_path: Path) -> None:
    contract = Contract("pixels", 4, (TensorSpec("x", "FP32", (64,)),), (TensorSpec("image", "UINT8", (64,)),))

    class Pixels(nn.Module):
        def __init__(self, off: float) -> None:
            super().__init__()
            self.off = off

        def forward(self, x: Tensor) -> Tensor:
            return (x.sigmoid() * 200 + self.off).round().to(torch.uint8)

    with pytest.raises(NumericalError) if refused else nullcontext():
        export_onnx(Pixels(0.0), contract, draw, tmp_path / "model.onnx")
        verify(Pixels(off), contract, draw, tmp_path / "model.onnx")


def test_an_operator_that_cannot_be_exported_is_a_refusal(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x.unsqueeze(-1) * x.unsqueeze(-2)).real[:, :2]

    with pytest.raises(ExportError, match="linear: torch.onnx cannot export it; .*aten.linalg_eig"):
        export_onnx(Odd(), LINEAR, draw, tmp_path / "model.onnx")


def test_a_batch_whose_size_becomes_a_constant_is_a_refusal(tmp_path: Path) -> None:
    class OfTwo(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * len(x)

    with pytest.raises(ExportError, match="linear: its forward makes the batch's size a constant"):
        export_onnx(OfTwo(), LINEAR, draw, tmp_path / "model.onnx")


def test_resizing_survives_the_export(tmp_path: Path) -> None:
    contract = Contract(
        "resize", 4, (TensorSpec("image", "UINT8", (48, 48, 3)),), (TensorSpec("pixels", "FP32", (3, 32, 32)),)
    )
    module = Preprocess({"image_mean": [0.0] * 3, "image_std": [1.0] * 3}, 32)

    def pictures(_: Contract, batch_size: int) -> tuple[Tensor, ...]:
        coarse = torch.randint(0, 256, (batch_size, 3, 6, 6)).float()
        return (nn.functional.interpolate(coarse, (48, 48)).to(torch.uint8).permute(0, 2, 3, 1).contiguous(),)

    verified = export_onnx(module, contract, pictures, tmp_path / "model.onnx")
    assert verified.max_abs_error <= verified.tolerance


def test_a_tower_without_plugin_still_takes_a_user(clip: CLIPModel, schema: FeatureSchema, tmp_path: Path) -> None:
    tower = RewardText(PerFusionRM(clip, schema, RewardConfig("vision_only")))
    user, ids = TensorSpec("user", "FP32", (24,)), TensorSpec("input_ids", "INT64", (77,))
    contract = Contract("reward_text", 4, (ids, user), (TensorSpec("embedding", "FP32", (8,)),))

    def prompts(_: Contract, batch_size: int) -> tuple[Tensor, ...]:
        return torch.randint(0, 50, (batch_size, 77)), torch.randn(batch_size, 24)

    export_onnx(tower, contract, prompts, tmp_path / "model.onnx")
