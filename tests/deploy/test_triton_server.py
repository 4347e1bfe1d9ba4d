"""How the local Triton is told to load a model: the whole contract, with instances for this machine."""

import json
from pathlib import Path

from deploy.local.triton_server import configuration, models

REPOSITORY = Path(__file__).parents[2] / "model_repository"


def test_the_denoiser_gets_an_instance_a_core_and_every_other_model_one() -> None:
    for model in models(REPOSITORY):
        found = json.loads(configuration(REPOSITORY, model, cores=4))
        (group,), threads = found["instance_group"], found["parameters"]["intra_op_thread_count"]["string_value"]
        assert (group["count"], threads) == ((4, "1") if model == "denoiser" else (1, "4"))
        assert group["kind"] == "KIND_CPU"


def test_the_contract_is_passed_on_whole() -> None:
    found = json.loads(configuration(REPOSITORY, "denoiser", cores=2))
    assert (found["name"], found["backend"], found["max_batch_size"]) == ("denoiser", "onnxruntime", 32)
    assert [tensor["name"] for tensor in found["input"]][:2] == ["latents", "timestep"]
    assert found["version_policy"] and found["model_warmup"] and "dynamic_batching" in found


def test_a_repository_that_names_its_instances_gets_those(tmp_path: Path) -> None:
    text = (REPOSITORY / "denoiser" / "config.pbtxt").read_text()
    (tmp_path / "denoiser").mkdir()
    (tmp_path / "denoiser" / "config.pbtxt").write_text(f"{text}\ninstance_group [ {{ count: 3 }} ]\n")
    found = json.loads(configuration(tmp_path, "denoiser", cores=2))
    assert [group["count"] for group in found["instance_group"]] == [3] and "parameters" not in found
