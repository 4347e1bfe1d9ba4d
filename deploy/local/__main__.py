"""The command line of the local cluster: `python -m deploy.local --help`."""

import argparse
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kafka.errors import KafkaError

from contract.errors import InputError
from contract.repository import Repository, write_durably
from deploy.local import kafka_broker
from deploy.local.authority import Authority
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import PARTS, SERVICES
from deploy.local.triton_server import CONTROLLER, NAME
from deploy.releases.announcing import announce
from deploy.releases.errors import ReleaseError
from deploy.releases.status import next_step

REPOSITORY = ROOT / "model_repository"
TOKEN_HOURS = 24


def main() -> None:
    options = _parse()
    # The Kafka client reports each refused connection, which is normal while a broker starts.
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    known = Layout(options.name, options.port_offset, _remembered(options.name) or REPOSITORY)
    given = (options.model_repository or known.model_repository).resolve()
    cluster = Cluster(replace(known, model_repository=given), say=lambda line: print(line, flush=True))
    try:
        if options.command == "up" and given != known.model_repository:
            _move(cluster, known)
        _COMMANDS[options.command](cluster, options.part)
    except (ClusterError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _remembered(name: str) -> Path | None:
    """The repository of one's own that this cluster was last started on."""
    file = Layout(name).repository_file
    return Path(file.read_text(encoding="utf-8")) if file.exists() else None


def _move(cluster: Cluster, known: Layout) -> None:
    """Remembers another repository, which a running Triton could not follow."""
    if not Repository(cluster.layout.model_repository).numbers():
        raise ClusterError(
            f"there is no release in {cluster.layout.model_repository}: "
            "export one there (python -m training.exporting.export --repository)"
        )
    if cluster.process("triton").pid is not None:
        raise ClusterError(
            f"the cluster '{known.name}' serves from {known.model_repository}: stop it first (`make down`), "
            "or start another beside it (NAME=second PORT_OFFSET=100)"
        )
    file, repository = known.repository_file, cluster.layout.model_repository
    file.unlink(missing_ok=True)
    if repository != REPOSITORY:
        write_durably(file, str(repository))


def _up(cluster: Cluster, names: list[str]) -> None:
    print(f"starting the cluster '{cluster.layout.name}' (logs in {cluster.layout.logs})", flush=True)
    cluster.up(names)
    _announce(cluster)
    print(cluster.table())
    if step := next_step(Repository(cluster.layout.model_repository)):
        print(step)


def _announce(cluster: Cluster) -> None:
    """A release that was promoted while Kafka was not there, as the first one may be, is told of now."""
    if cluster.process("kafka").pid is not None:
        try:
            announce(Repository(cluster.layout.model_repository), kafka_broker.access(cluster.layout, CONTROLLER))
        except (InputError, ReleaseError) as error:
            print(f"warning: {error}", file=sys.stderr)


def _down(cluster: Cluster, names: list[str]) -> None:
    for name in names:
        cluster.stop(name)
    if not names:
        cluster.down()


def _restart(cluster: Cluster, names: list[str]) -> None:
    for name in names or [p.name for p in PARTS]:
        cluster.restart(name)


def _status(cluster: Cluster, _: list[str]) -> None:
    print(cluster.table())


def _logs(cluster: Cluster, names: list[str]) -> None:
    """Follows the logs until interrupted."""
    files = [str(cluster.process(n).log_file) for n in names or [p.name for p in PARTS]]
    try:
        subprocess.run(["tail", "-n", "20", "-F", *files], check=False)
    except KeyboardInterrupt:
        print()


def _token(cluster: Cluster, merchants: list[str]) -> None:
    """For a day."""
    if not cluster.layout.client.exists():
        raise ClusterError(f"the cluster '{cluster.layout.name}' was never started: run `make up` first")
    print(Authority(cluster.layout.home).token(merchants or None, TOKEN_HOURS))


def _renew(cluster: Cluster, _: list[str]) -> None:
    layout = cluster.layout
    Authority(layout.home).prepare(sorted({*SERVICES, NAME, CONTROLLER, *kafka_broker.USERS}), anew=True)
    if cluster.process("kafka").pid is not None:
        try:
            kafka_broker.renew(layout)
        except KafkaError as error:
            raise ClusterError(
                f"Kafka does not take its new certificate ({error}): `make restart PART=kafka`"
            ) from error
    print(f"renewed the certificates in {layout.home}: services and Kafka take them from their next connection on,")
    print("Triton when it is started again (`make restart PART=triton`)")


_COMMANDS: dict[str, Callable[[Cluster, list[str]], None]] = {
    "up": _up,
    "down": _down,
    "restart": _restart,
    "status": _status,
    "logs": _logs,
    "token": _token,
    "renew": _renew,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="Run the whole cluster on this machine: start and stop it, follow its logs; make a token for "
        "chosen merchants; renew its certificates while it runs.",
    )
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument(
        "part",
        nargs="*",
        help=f"only these: {', '.join(p.name for p in PARTS)}; "
        "with `token`, the merchants that it is for (default: all)",
    )
    parser.add_argument("--name", default="local", help="a cluster's files live in build/NAME")
    parser.add_argument("--port-offset", type=int, default=0, help="added to every port")
    parser.add_argument("--model-repository", type=Path, help="where releases lie (default: the last one)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
