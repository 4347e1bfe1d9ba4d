"""How a model runs on a GPU: configurations that Triton's own protobuf takes, and ONNX Runtime when TensorRT fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from contract.release import ModelFiles, read_manifest
from contract.repository import Repository
from deploy.releases import model_config
from deploy.releases.agent import Mirror
from deploy.releases.errors import ServerError
from deploy.releases.store import CONFIG, Store, StoreError
from deploy.releases.tensorrt import (
    ONNX_RUNTIME,
    PLAN,
    Setting,
    SettingError,
    Target,
    by_onnx_runtime,
    by_plan,
    by_provider,
    key,
    ways,
)
from deploy.releases.tritons import Tritons
from tests.deploy.releases.parts import CONTRACTS, MODELS, Table

TARGET = "11.4.0.106-sm89"
PLANS = Setting.parse(TARGET)
ALL = sorted(path.parent.name for path in CONTRACTS.glob("*/config.pbtxt"))


def contract(model: str) -> Any:
    return model_config.of_repository(CONTRACTS, model)


def loaded(config: Any) -> Any:
    """What Triton reads of an override, by its own protobuf; an unknown field is an error."""
    return json_format.Parse(model_config.serving(config, [1]), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("way", [by_plan, by_provider, by_onnx_runtime])
def test_a_configuration_keeps_the_contract(way: Any, model: str) -> None:
    found, said = loaded(way(contract(model))), contract(model)
    for name in ("name", "max_batch_size", "input", "output", "dynamic_batching", "model_warmup"):
        assert getattr(found, name) == getattr(said, name), name
    assert list(found.version_policy.specific.versions) == [1]


@pytest.mark.parametrize("model", ALL)
def test_a_plan_runs_in_tritons_tensorrt_backend(model: str) -> None:
    said = contract(model)
    said.parameters["intra_op_thread_count"].string_value = "1"
    found = loaded(by_plan(said))
    assert (found.backend, found.default_model_filename) == ("tensorrt", PLAN)
    assert not found.parameters
    assert not found.optimization.execution_accelerators.gpu_execution_accelerator


@pytest.mark.parametrize("model", ALL)
def test_the_provider_is_told_shapes_and_where_engines_are_kept(model: str) -> None:
    found = loaded(by_provider(contract(model)))
    [accelerator] = found.optimization.execution_accelerators.gpu_execution_accelerator
    told = dict(accelerator.parameters)
    assert (found.backend, accelerator.name, told["precision_mode"]) == ("onnxruntime", "tensorrt", "FP32")
    for name, batch in (("min", 1), ("max", found.max_batch_size)):
        shapes = dict(each.rsplit(":", 1) for each in told[f"trt_profile_{name}_shapes"].split(","))
        assert shapes == {each.name: "x".join(map(str, (batch, *each.dims))) for each in found.input}
    assert told["trt_engine_cache_path"] == f"/tensorrt/{model}"


def test_onnx_runtime_alone_is_what_the_contract_says() -> None:
    for way in (by_plan, by_provider):
        assert by_onnx_runtime(way(contract("denoiser"))) == contract("denoiser")


@pytest.mark.parametrize("text", ["on", "11.4.0.106", "sm89", "11.4.0.106-sm8.9", "11.4.0.106-SM89", "provider "])
def test_a_wrong_setting_is_named(text: str) -> None:
    with pytest.raises(SettingError, match="PERFUSION_TENSORRT"):
        Setting.parse(text)


def test_settings() -> None:
    assert Setting.parse("") == Setting.parse("off") == ONNX_RUNTIME
    assert Setting.parse("provider").provider
    assert PLANS.target == Target("11.4.0.106", "89")
    assert str(PLANS.target) == TARGET


def test_a_plan_runs_only_where_every_version_has_one(tmp_path: Path) -> None:
    config = contract("denoiser")
    put_plan(tmp_path, "denoiser", 1)
    assert [way.backend for way in ways(PLANS, tmp_path, config, [1])] == ["tensorrt", "onnxruntime"]
    assert [way.backend for way in ways(PLANS, tmp_path, config, [1, 2])] == ["onnxruntime"]
    put_plan(tmp_path, "denoiser", 2)
    assert [way.backend for way in ways(PLANS, tmp_path, config, [1, 2])] == ["tensorrt", "onnxruntime"]


def test_another_graph_contract_or_file_has_another_plan() -> None:
    entry = ModelFiles({"model.onnx": "a", "weights": "b"}, 0.0, 0.0, "")
    others = [
        key(ModelFiles({"model.onnx": "a", "weights": "c"}, 0.0, 0.0, ""), "contract"),
        key(ModelFiles({"model.onnx": "a"}, 0.0, 0.0, ""), "contract"),
        key(entry, "contract of larger batches"),
    ]
    assert len({key(entry, "contract"), *others}) == 4
    again = ModelFiles({"weights": "b", "model.onnx": "a"}, 1.0, 1.0, "of another export")
    assert key(again, "contract") == key(entry, "contract")


class Backends(Table):
    """A Triton that remembers what each model is loaded with, and may refuse a backend."""

    def __init__(self, without: str = "", mute: str = "") -> None:
        super().__init__()
        self.without, self.silent = without, mute
        self.configs: dict[str, Any] = {}

    def config(self, model: str) -> Any | None:
        return self.configs.get(model) if self.held[model] else None

    def load(self, model: str, config: Any, versions: set[int]) -> None:
        if config.backend == self.without:
            raise ServerError(f"{model}: no plan for this GPU")
        super().load(model, config, versions)
        self.configs[model] = config

    def prove(self, model: str, version: int, config: Any) -> None:
        if self.configs[model].backend == self.silent:
            raise ServerError(f"{model} answers NaN")
        super().prove(model, version, config)

    def backends(self) -> set[str]:
        return {config.backend for config in self.configs.values()}


def tritons(repository: Repository, server: Table, told: list[str], setting: Setting = PLANS) -> Tritons:
    return Tritons(repository.root, [server], told.append, model_config.of_repository, 0.0, setting)


def put_plan(root: Path, model: str, number: int) -> None:
    (root / model / str(number)).mkdir(parents=True, exist_ok=True)
    (root / model / str(number) / PLAN).write_bytes(b"plan")


def load(found: Tritons, repository: Repository, *numbers: int) -> None:
    found.load({number: read_manifest(repository.release_dir(number)) for number in numbers})


def test_releases_with_plans_are_loaded_with_them_and_one_without_takes_all_to_onnx_runtime(
    repository: Repository,
) -> None:
    server, told = Backends(), list[str]()
    for model in MODELS:
        put_plan(repository.root, model, 1)
    load(tritons(repository, server, told), repository, 1)
    assert server.backends() == {"tensorrt"}
    load(tritons(repository, server, told), repository, 2)
    assert server.backends() == {"onnxruntime"}
    assert all(server.versions(model) == {1, 2} for model in MODELS)


@pytest.mark.parametrize(
    "server", [Backends(without="tensorrt"), Backends(mute="tensorrt")], ids=["refuses", "is mute"]
)
def test_a_model_that_does_not_run_with_tensorrt_runs_with_onnx_runtime(
    server: Backends, repository: Repository
) -> None:
    told = list[str]()
    for model in MODELS:
        put_plan(repository.root, model, 1)
    load(tritons(repository, server, told), repository, 1)
    assert server.backends() == {"onnxruntime"}
    assert all(server.versions(model) == {1} for model in MODELS)
    assert sum("without TensorRT" in line for line in told) == len(MODELS)


def test_the_provider_is_left_where_it_fails(repository: Repository) -> None:
    class NoProvider(Backends):
        def load(self, model: str, config: Any, versions: set[int]) -> None:
            if config.optimization.execution_accelerators.gpu_execution_accelerator:
                raise ServerError("no TensorRT provider")
            super().load(model, config, versions)

    server, told = NoProvider(), list[str]()
    load(tritons(repository, server, told, Setting.parse("provider")), repository, 1)
    assert all(server.versions(model) == {1} for model in MODELS)
    assert len([line for line in told if "no TensorRT provider" in line]) == len(MODELS)


def test_a_follower_fetches_plans_and_remembers_what_has_none(repository: Repository, tmp_path: Path) -> None:
    store, told = Store(f"file://{tmp_path}/store"), list[str]()
    store.push(repository, 1)
    manifest = read_manifest(repository.release_dir(1))
    names = {
        model: key(entry, (repository.root / model / CONFIG).read_text()) for model, entry in manifest.models.items()
    }
    store.push_plan(TARGET, names["denoiser"], {"recipe": "fp16"}, b"a plan")
    store.push_plan(TARGET, names["vae_decoder"], {"refused": ["fp32: too far"]}, None)
    follower = Mirror(store, Repository(tmp_path / "pod"), told.append, tensorrt=PLANS)
    follower.repository.root.mkdir()
    for _ in range(2):
        follower.fetch({1})
    plans = {path.parents[1].name for path in follower.repository.root.glob(f"*/1/{PLAN}")}
    assert plans == {"denoiser"}
    assert (follower.repository.model_dir("denoiser", 1) / PLAN).read_bytes() == b"a plan"
    assert sum("plan of denoiser" in line for line in told) == 1
    follower.repository.check(1)


def test_what_was_found_stays_and_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    store, repository = Store(f"file://{tmp_path}/store"), Repository(tmp_path / "pod")
    store.push_plan(TARGET, "key", {}, b"a plan")
    store.push_plan(TARGET, "key", {}, None)
    found = json.loads((tmp_path / "store/plans" / TARGET / "key.json").read_text())
    (tmp_path / "store/objects" / found["plan"]).write_bytes(b"another")
    with pytest.raises(StoreError, match="damaged"):
        store.fetch_plan(TARGET, "key", repository.root / PLAN, repository)
    assert store.plans(TARGET) == {"key"}
    assert store.plans("11.4.0.106-sm90") == set()
