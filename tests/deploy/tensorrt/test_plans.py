"""A plan is taken once its numbers are ONNX Runtime's, whatever builds and runs it; here ONNX Runtime itself does.

What TensorRT does is not tried here: test_parser.py has the part of it that needs no GPU.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from contract.release import ModelFiles, Release
from contract.repository import Repository
from deploy.releases import model_config
from deploy.tensorrt.engine import ranges
from deploy.tensorrt.errors import BuildError, GraphError
from deploy.tensorrt.plans import Build, Plan, Run, find
from deploy.tensorrt.samples import Arrays, Samples
from tests.deploy.tensorrt.conftest import MODELS

MODEL = "text_encoder"  # float16 lies beyond its tolerance
Wrong = Callable[[Arrays], Arrays]


def builder(built: list[tuple[str, bool]], wrong: Wrong = lambda outputs: outputs) -> Build:
    def build(graph: Path, tf32: bool) -> tuple[bytes, Run]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        half = any(each.data_type == onnx.TensorProto.FLOAT16 for each in onnx.load(graph).graph.initializer)
        built.append(("half" if half else "full", tf32))
        names = [each.name for each in session.get_outputs()]
        return b"plan", lambda inputs: wrong(dict(zip(names, session.run(names, inputs), strict=True)))

    return build


@pytest.fixture
def parts(repository: Repository, number: int, release: Release) -> tuple[Path, ModelFiles, Samples]:
    config = model_config.of_repository(repository.root, MODEL)
    config.max_batch_size = 3
    return repository.model_dir(MODEL, number), release.manifest.models[MODEL], Samples(release, config)


def test_float16_beyond_the_tolerance_gives_way_to_float32(parts: Any) -> None:
    built = list[tuple[str, bool]]()
    found = find(*parts, builder(built))
    assert built == [("half", True), ("full", True)]
    assert (found.recipe, found.content, found.max_abs_error) == ("tf32", b"plan", 0.0)
    assert len(found.refused) == 1 and found.refused[0].startswith("fp16: output hidden")


def test_who_takes_more_gets_float16(parts: Any) -> None:
    found = find(*parts, builder([]), times=100.0)
    assert (found.recipe, found.refused) == ("fp16", ())
    assert 0 < found.max_abs_error <= found.tolerance == 100 * parts[1].tolerance


@pytest.mark.parametrize(
    "wrong",
    [
        lambda outputs: {},
        lambda outputs: {name: value * np.float32(np.nan) for name, value in outputs.items()},
        lambda outputs: {name: value + np.float32(1) for name, value in outputs.items()},
        lambda outputs: {name: value[:1] for name, value in outputs.items()},
        lambda outputs: {name: value.astype(np.float16) for name, value in outputs.items()},
    ],
    ids=["nothing", "not finite", "another number", "another shape", "another type"],
)
def test_without_a_plan_that_is_right_there_is_none(wrong: Wrong, parts: Any) -> None:
    # The first batch has one sample, whose shape is right even cut; the second shows it.
    found = find(*parts, builder([], wrong))
    assert (found.content, found.settled) == (None, True)
    assert [each.partition(":")[0] for each in found.refused] == ["fp16", "tf32", "fp32"]


@pytest.mark.parametrize(("error", "settled"), [(BuildError("no memory"), False), (GraphError("no such node"), True)])
def test_what_another_try_may_mend_is_not_settled(error: Exception, settled: bool, parts: Any) -> None:
    def build(graph: Path, tf32: bool) -> tuple[bytes, Run]:
        raise error

    found = find(*parts, build)
    assert (found.content, found.settled) == (None, settled)
    assert found == replace(found, refused=tuple(f"{name}: {error}" for name in ("fp16", "tf32", "fp32")))
    assert isinstance(found, Plan)


@pytest.mark.parametrize("model", MODELS)
def test_shapes_and_samples_are_the_contracts(model: str, repository: Repository, release: Release) -> None:
    config = model_config.of_repository(repository.root, model)
    drawn, shapes = Samples(release, config).draw(7), ranges(config)
    assert [*drawn] == [*shapes] == [tensor.name for tensor in config.input]
    for tensor in config.input:
        assert drawn[tensor.name].shape == (7, *tensor.dims)
        assert drawn[tensor.name].dtype == model_config.dtype_of(tensor)
        of = shapes[tensor.name]
        assert [each[0] for each in (of.least, of.usual, of.most)] == [1, config.model_warmup[-1].batch_size, 32]
        assert {each[1:] for each in (of.least, of.usual, of.most)} == {tuple(tensor.dims)}
