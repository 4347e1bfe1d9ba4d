"""The processes in which the local Triton runs its models: which must live, which died, which nothing calls any more.

Triton's Python backend runs each instance of each version in a process of its own. It calls a model ready while it is
loaded, though its process died; and on a busy machine it may leave a process behind when it unloads a version or loads
it anew. Knows how those processes are called; starts and ends none.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deploy.releases.server import Server

STUB = "triton_python_backend_stub"
Place = tuple[str, int]  # model, version


def dead(server: Server, region: str) -> Mapping[Place, int]:
    """How many processes each ready (model, version) lacks; those that lack none are left out.

    `region` is the beginning of the names of this server's shared memory, which tells its processes from others'.

    Raises:
        ServerError: the server does not answer.
    """
    living = processes(region)
    lacks = {place: wanted - len(living.get(place, ())) for place, wanted in _instances(server).items()}
    return {place: missing for place, missing in lacks.items() if missing > 0}


def left_over(server: Server, region: str) -> set[int]:
    """Processes beyond those that Triton calls; the youngest are those that it loaded last.

    Raises:
        ServerError: the server does not answer.
    """
    held, wanted = server.states(), _instances(server)
    surplus: set[int] = set()
    for (model, version), pids in processes(region).items():
        if held.get(model, {}).get(version, "READY") == "READY":  # nobody knows how many one in between has
            surplus |= set(pids[: max(0, len(pids) - wanted.get((model, version), 0))])
    return surplus


def processes(region: str) -> dict[Place, list[int]]:
    """The living processes of each (model, version) by their command lines, the oldest first."""
    found: dict[Place, list[tuple[int, int]]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile
            command = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if len(command) > 2 and command[0].endswith(STUB) and command[2].startswith(region):
                model, version = Path(command[1]).parts[-3:-1]  # …/<model>/<version>/model.onnx
                began = int((path / "stat").read_text().rpartition(")")[2].split()[19])
                found.setdefault((model, int(version)), []).append((began, int(path.name)))
    return {place: [pid for _, pid in sorted(pids)] for place, pids in found.items()}


def _instances(server: Server) -> dict[Place, int]:
    """How many processes each ready (model, version) has."""
    found: dict[Place, int] = {}
    for model, held in server.states().items():
        ready = [version for version, state in held.items() if state == "READY"]
        config = server.config(model) if ready else None
        if config is not None:
            found |= {(model, version): sum(group.count for group in config.instance_group) for version in ready}
    return found
