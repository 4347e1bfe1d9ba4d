"""Triton from its wheel: the backend directory, the command, how models are run on this machine, and whether they do.

Knows the wheel's inner layout. deploy.releases loads releases into it; it does not know the models' purpose.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
from tritonclient.grpc import model_config_pb2

from contract.errors import InputError
from contract.release import read_manifest
from contract.repository import CONTROL, LockedError, Repository
from deploy.local import keeper, model_processes
from deploy.local.authority import Authority
from deploy.local.layout import ROOT, Layout, clean_environment, site_packages, venv
from deploy.releases import model_config
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.server import Server, connected

NAME, CONTROLLER = "triton", "releases"  # whose certificates they are
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
    """Removes the shared memory that a killed server leaves, since a container has little of it; links the folders."""
    for leftover in Path("/dev/shm").glob(f"{layout.shared_memory}*"):
        leftover.unlink(missing_ok=True)
    links = _links(layout)
    links.mkdir(exist_ok=True)
    authority = Authority(layout.home)
    authority.prepare([NAME, CONTROLLER])
    folders = {
        "models": layout.model_repository,
        "backends": backend_directory(),
        "certificates": authority.folder(NAME),
    }
    for link, folder in ((links / name, folder) for name, folder in folders.items()):
        link.unlink(missing_ok=True)
        link.symlink_to(folder)


def command(layout: Layout) -> list[str]:
    """The command: explicit model control and no auto-completed configuration, so Triton serves only the contract."""
    own = _links(layout) / "certificates"
    return [
        str(site_packages("triton") / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={_links(layout) / 'models'}",
        f"--backend-directory={_links(layout) / 'backends'}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-http=false",  # it knows no certificates
        f"--grpc-port={layout.port('triton_grpc')}",
        f"--metrics-port={layout.port('triton_metrics')}",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--allow-gpu-metrics=false",
        "--allow-cpu-metrics=false",
        "--exit-timeout-secs=5",
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={own / 'tls.crt'}",
        f"--grpc-server-key={own / 'tls.key'}",
        f"--grpc-root-cert={own / 'ca.crt'}",
        f"--backend-config=python,shm-region-prefix-name={layout.shared_memory}",
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
    """Loads the live release and the fallback, unless they are; in a repository without, the newest goes live.

    A model that is loaded and lacks a process is the keeper's to revive.
    """
    if is_ready(layout):
        return
    with closing(server_of(layout, layout.patience_s)) as server:
        controller = Controller(Repository(layout.model_repository), [server], say, configure=configuration)
        try:
            if not model_processes.dead(server, layout.shared_memory):
                controller.restore()
        except LockedError:  # another controller is at work: the caller asks again
            return
        except (InputError, ReleaseError) as error:
            raise RuntimeError(f"{error}\nTriton runs without a release: load and promote another one") from error


def configuration(repository: Path, model: str, cores: int | None = None) -> Any:
    """config.pbtxt with instances for this machine's cores where it names none.

    The denoiser gets an instance a core with one thread each: several merchants' rounds then share the machine without
    waiting for each other (docs/results.md). Every other model gets one instance with a thread a core. A repository
    that says how many instances it wants gets those.
    """
    cores = cores or len(os.sched_getaffinity(0))
    config = model_config.of_repository(repository, model)
    if not config.instance_group:
        config.instance_group.add(count=cores if model == DENOISER else 1, kind=KIND_CPU)
        config.parameters["intra_op_thread_count"].string_value = str(1 if model == DENOISER else cores)
    return config


def threads_of(repository: Path, model: str) -> int:
    """How many threads one instance of a model computes with."""
    parameters = configuration(repository, model).parameters
    if "intra_op_thread_count" not in parameters:
        return len(os.sched_getaffinity(0))
    return int(parameters["intra_op_thread_count"].string_value)


def server_of(layout: Layout, limit_s: float = 600.0) -> Server:
    """This Triton for who controls it; `limit_s` is for one load or one inference."""
    return Server(layout.address("triton_grpc"), limit_s, Authority(layout.home).folder(CONTROLLER))


def client_of(layout: Layout) -> triton.InferenceServerClient:
    """tritonclient's own client of it."""
    return connected(layout.address("triton_grpc"), Authority(layout.home).folder(CONTROLLER))


def is_live(layout: Layout) -> bool:
    try:
        with client_of(layout) as client:
            return bool(client.is_server_live(client_timeout=2.0))  # "ready" needs every model, and we load them
    except triton.InferenceServerException:
        return False


def is_ready(layout: Layout) -> bool:
    """Every model of the live release is loaded, every process lives that runs a model, and none is being revived."""
    repository = Repository(layout.model_repository)
    try:
        live = layout.release()
        models = read_manifest(repository.release_dir(live)).models
        with closing(server_of(layout)) as server:
            states = server.states()
            loaded = all(states.get(model, {}).get(live) == "READY" for model in models)
            whole = not model_processes.dead(server, layout.shared_memory)
            return loaded and whole and not repository.held_by(CONTROL).startswith(keeper.reviving(layout))
    except (InputError, ServerError):
        return False


def _links(layout: Layout) -> Path:
    """Links to the folders that Triton reads, by a path without blanks, which its shell would split."""
    return Path("/tmp") / f"{layout.shared_memory}{os.getuid()}"


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
