"""Triton from its wheel: the backend directory, the command, and the loading of a release.

Knows the wheel's inner layout and Triton's model control API. Does not know the models' purpose.
"""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import tritonclient.grpc as triton
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from contract.errors import ManifestError
from deploy.local.layout import ROOT, Layout, clean_environment, site_packages, venv

DENOISER = "denoiser"  # the model that a round calls at every step
KIND_CPU = model_config_pb2.ModelInstanceGroup.KIND_CPU


def backend_directory() -> Path:
    """Assemble `python/` from the wheel and our `onnxruntime/` beside it, as --backend-directory needs them."""
    wheel = site_packages("triton") / "pytriton" / "tritonserver"
    target = ROOT / "build" / "triton-backends"
    python = target / "python"
    python.mkdir(parents=True, exist_ok=True)
    for source in (*(wheel / "backends" / "python").iterdir(), _stub(wheel)):
        _copy_if_changed(source, python / source.name)
    ours = ROOT / "deploy" / "local" / "triton" / "backend" / "onnxruntime"
    (target / "onnxruntime").mkdir(exist_ok=True)
    _copy_if_changed(ours / "model.py", target / "onnxruntime" / "model.py")
    return target


def prepare(layout: Layout) -> None:
    """Removes the shared memory that a killed server leaves; a container has little of it."""
    for leftover in Path("/dev/shm").glob(f"{_shared_memory(layout)}*"):
        leftover.unlink(missing_ok=True)


def command(layout: Layout) -> list[str]:
    """The command: explicit model control and no auto-completed configuration, so Triton serves only the contract."""
    return [
        str(site_packages("triton") / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={layout.model_repository}",
        f"--backend-directory={backend_directory()}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        f"--http-port={layout.port('triton_http')}",
        f"--grpc-port={layout.port('triton_grpc')}",
        f"--metrics-port={layout.port('triton_metrics')}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--allow-gpu-metrics=false",
        "--allow-cpu-metrics=false",
        "--exit-timeout-secs=5",
        f"--backend-config=python,shm-region-prefix-name={_shared_memory(layout)}",
    ]


def environment(_: Layout) -> dict[str, str]:
    """The stub's environment: it embeds libpython and needs the paths of this interpreter's library and packages."""
    libraries = [str(site_packages("triton") / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    own = {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": os.pathsep.join([str(venv("triton") / "bin"), os.environ["PATH"]]),
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": str(site_packages("triton")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return clean_environment() | own


def load_release(layout: Layout, say: Callable[[str], None]) -> None:
    """Loads every model of the repository by API and requires that the release in service is ready in each."""
    release = str(layout.release())
    with triton.InferenceServerClient(layout.address("triton_grpc")) as client:
        for model in models(layout.model_repository):
            if not _has(client, model, release):
                say(f"loading {model} release {release}")
                _load(client, model, configuration(layout.model_repository, model), layout.patience_s)
            if not _has(client, model, release):
                raise RuntimeError(f"Triton loaded {model} but not its release {release}")


def _has(client: triton.InferenceServerClient, model: str, release: str) -> bool:
    try:
        return bool(client.is_model_ready(model, release, client_timeout=10.0))
    except triton.InferenceServerException as error:
        raise RuntimeError(f"Triton stopped answering: {error.message()}") from error


def configuration(repository: Path, model: str, cores: int | None = None) -> str:
    """config.pbtxt as JSON, with instances for this machine's cores where it names none.

    The denoiser gets an instance a core with one thread each: several merchants' rounds then share the machine without
    waiting for each other (docs/results.md). Every other model gets one instance with a thread a core. A repository
    that says how many instances it wants gets those.
    """
    cores = cores or len(os.sched_getaffinity(0))
    text = (repository / model / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    if not config.instance_group:
        config.instance_group.add(count=cores if model == DENOISER else 1, kind=KIND_CPU)
        config.parameters["intra_op_thread_count"].string_value = str(1 if model == DENOISER else cores)
    return json_format.MessageToJson(config, preserving_proto_field_name=True)


def threads_of(repository: Path, model: str) -> int:
    """How many threads one instance of a model computes with."""
    parameters = json.loads(configuration(repository, model)).get("parameters", {})
    return int(parameters.get("intra_op_thread_count", {}).get("string_value", len(os.sched_getaffinity(0))))


def _load(client: triton.InferenceServerClient, model: str, config: str, limit_s: float) -> None:
    try:
        client.load_model(model, config=config, client_timeout=limit_s)
    except triton.InferenceServerException as error:
        raise RuntimeError(f"Triton refuses {model}: {error.message()}") from error


def is_live(layout: Layout) -> bool:
    try:
        with triton.InferenceServerClient(layout.address("triton_grpc")) as client:
            return bool(client.is_server_live(client_timeout=2.0))  # "ready" needs every model, and we load them
    except triton.InferenceServerException:
        return False


def is_ready(layout: Layout) -> bool:
    """Every model of the release in service answers, not only the server."""
    try:
        with triton.InferenceServerClient(layout.address("triton_grpc")) as client:
            release = str(layout.release())
            return all(client.is_model_ready(m, release, client_timeout=2.0) for m in models(layout.model_repository))
    except (triton.InferenceServerException, ManifestError):
        return False


def models(repository: Path) -> Iterator[str]:
    """A model is a folder with a contract."""
    return (path.parent.name for path in sorted(repository.glob("*/config.pbtxt")))


def _shared_memory(layout: Layout) -> str:
    return f"perfusion_{layout.name}_{layout.port('triton_grpc')}_"


def _stub(wheel: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return wheel / "python_backend_stubs" / version / "triton_python_backend_stub"


def _copy_if_changed(source: Path, target: Path) -> None:
    """A running server has these files mapped: replace them only by a rename, and only when they differ."""
    if source.is_dir():
        return
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    fresh = target.with_suffix(target.suffix + ".new")
    shutil.copy2(source, fresh)
    os.replace(fresh, target)
