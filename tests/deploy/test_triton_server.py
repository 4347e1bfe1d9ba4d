"""How the local Triton is told to load a model: the whole contract, with instances for this machine."""

import json
from pathlib import Path

import pytest

from deploy.local.triton_server import KIND_CPU, configuration, threads_of
from deploy.releases import model_config

REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODELS = sorted(path.parent.name for path in REPOSITORY.glob("*/config.pbtxt"))


@pytest.mark.parametrize("model", MODELS)
def test_the_denoiser_gets_an_instance_a_core_and_every_other_model_one(model: str) -> None:
    found = configuration(REPOSITORY, model, cores=4)
    (group,), threads = found.instance_group, found.parameters["intra_op_thread_count"].string_value
    assert (group.count, threads) == ((4, "1") if model == "denoiser" else (1, "4"))
    assert group.kind == KIND_CPU


def test_the_contract_is_passed_on_whole_with_the_versions_to_serve() -> None:
    found = json.loads(model_config.serving(configuration(REPOSITORY, "denoiser", cores=2), {3}))
    assert (found["name"], found["backend"], found["max_batch_size"]) == ("denoiser", "onnxruntime", 32)
    assert [tensor["name"] for tensor in found["input"]][:2] == ["latents", "timestep"]
    assert found["model_warmup"] and "dynamic_batching" in found
    assert found["version_policy"] == {"specific": {"versions": ["3"]}}


@pytest.mark.parametrize("model", MODELS)
def test_a_contract_by_itself_serves_no_version(model: str) -> None:
    """Whoever loads a model without saying which versions serve is refused, and what serves goes on."""
    policy = model_config.of_repository(REPOSITORY, model).version_policy
    assert policy.HasField("specific") and not policy.specific.versions


def test_a_repository_that_names_its_instances_gets_those(tmp_path: Path) -> None:
    text = (REPOSITORY / "denoiser" / "config.pbtxt").read_text()
    (tmp_path / "denoiser").mkdir()
    (tmp_path / "denoiser" / "config.pbtxt").write_text(f"{text}\ninstance_group [ {{ count: 3 }} ]\n")
    found = configuration(tmp_path, "denoiser", cores=2)
    assert [group.count for group in found.instance_group] == [3] and not found.parameters
    assert threads_of(REPOSITORY, "denoiser") == 1 <= threads_of(tmp_path, "denoiser")
