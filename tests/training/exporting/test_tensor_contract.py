"""config.pbtxt as committed, and graphs that do not fit it."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from contract import tensors
from training.exporting.errors import ContractError
from training.exporting.graphs import BUILDERS, SOURCES
from training.exporting.manifest import tensor_sizes
from training.exporting.tensor_contract import Contract, TensorSpec, check_graph, read_contract

REPOSITORY = Path(__file__).parents[3] / "model_repository"
CONTRACT = Contract("m", 32, (TensorSpec("x", "FP32", (2,)),), (TensorSpec("y", "INT64", (1,)),))


def graph(
    x_name: str = "x", x_type: int = TensorProto.FLOAT, x_shape: tuple[object, ...] = ("batch", 2)
) -> onnx.GraphProto:
    x = helper.make_tensor_value_info(x_name, x_type, x_shape)
    y = helper.make_tensor_value_info("y", TensorProto.INT64, ("batch", 1))
    return helper.make_graph([], "g", [x], [y])


def test_a_contract_is_committed_for_every_model_that_is_exported() -> None:
    assert {path.parent.name for path in REPOSITORY.glob("*/config.pbtxt")} == set(BUILDERS) == set(SOURCES)


def test_the_committed_contracts_agree_with_each_other_and_are_padded_to_the_maxima() -> None:
    sizes = tensor_sizes({model: read_contract(REPOSITORY, model) for model in BUILDERS})
    assert sizes.text_tokens == 77
    assert (sizes.feature_slots, sizes.phrases) == (tensors.FEATURE_SLOTS, tensors.PHRASES)
    assert sizes.generator_user_width == tensors.GENERATOR_USER_WIDTH
    assert sizes.reward_user_width == tensors.REWARD_USER_WIDTH


def test_the_denoisers_contract_is_the_architectures() -> None:
    contract = read_contract(REPOSITORY, "denoiser")
    assert [str(spec) for spec in (*contract.inputs, *contract.outputs)] == [
        "latents FP32[4,8,8]",
        "timestep INT64[1]",
        "text FP32[77,64]",
        "negative_text FP32[77,64]",
        "user FP32[256]",
        "guidance FP32[1]",
        "adapter_scale FP32[1]",
        "noise FP32[4,8,8]",
    ]


def test_the_user_encoder_says_what_a_profile_stands_for_and_what_it_favours() -> None:
    contract = read_contract(REPOSITORY, "user_encoder")
    assert [str(spec) for spec in (*contract.inputs, *contract.outputs)] == [
        "features INT64[32]",
        "reward_text_user FP32[512]",
        "reward_image_user FP32[512]",
        "generator_user FP32[256]",
        "favours FP32[256]",
    ]


def test_a_graph_that_fits_passes() -> None:
    check_graph(CONTRACT, graph())


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (graph(x_name="z"), "inputs are z FP32"),
        (graph(x_type=TensorProto.INT64), r"inputs are x INT64\[2\], config.pbtxt says x FP32"),
        (graph(x_shape=("batch", 3)), r"inputs are x FP32\[3\]"),
        (graph(x_shape=(5, 2)), "batch dimension of x is fixed at 5"),
        (graph(x_shape=("batch", "width")), "unknown dimensions"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_with_the_difference(found: onnx.GraphProto, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_graph(CONTRACT, found)


def test_a_missing_or_broken_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is missing"):
        read_contract(tmp_path, "denoiser")
    (tmp_path / "denoiser").mkdir()
    (tmp_path / "denoiser" / "config.pbtxt").write_text("name: denoiser")
    with pytest.raises(ContractError, match="config.pbtxt"):
        read_contract(tmp_path, "denoiser")
    (tmp_path / "denoiser" / "config.pbtxt").write_text('name: "other" max_batch_size: 32')
    with pytest.raises(ContractError, match="name must be 'denoiser'"):
        read_contract(tmp_path, "denoiser")
