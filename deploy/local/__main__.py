"""The command line of the local cluster: `python -m deploy.local --help`."""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import PARTS


def main() -> None:
    options = _parse()
    # The Kafka client reports each refused connection, which is normal while a broker starts.
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    cluster = Cluster(
        Layout(options.name, options.port_offset, options.model_repository.resolve()),
        say=lambda line: print(line, flush=True),
    )
    try:
        _COMMANDS[options.command](cluster, options.part)
    except (ClusterError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _up(cluster: Cluster, names: list[str]) -> None:
    print(f"starting the cluster '{cluster.layout.name}' (logs in {cluster.layout.logs})", flush=True)
    cluster.up(names)
    print(cluster.table())


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


_COMMANDS = {"up": _up, "down": _down, "restart": _restart, "status": _status, "logs": _logs}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local", description="Run the whole cluster on this machine."
    )
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("part", nargs="*", help=f"only these: {', '.join(p.name for p in PARTS)}")
    parser.add_argument("--name", default="local", help="a cluster's files live in build/NAME")
    parser.add_argument("--port-offset", type=int, default=0, help="added to every port")
    parser.add_argument("--model-repository", type=Path, default=ROOT / "model_repository", help="where releases lie")
    return parser.parse_args()


if __name__ == "__main__":
    main()
