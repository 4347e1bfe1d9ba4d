"""Exporting one graph: a dynamic batch, the same numbers, and refusals."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from contract.feature_schema import FeatureSchema
from training.exporting.errors import ContractError, NumericalError
from training.exporting.graphs import RewardText
from training.exporting.onnx_file import export_onnx, verify
from training.exporting.tensor_contract import Contract, TensorSpec
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM, RewardConfig

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
    with pytest.raises(NumericalError, match="differs from torch"):
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
    with pytest.raises(NumericalError, match="two: ONNX Runtime differs from torch by inf"):
        export_onnx(FineThenBroken(), contract, draw, tmp_path / "model.onnx")


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
