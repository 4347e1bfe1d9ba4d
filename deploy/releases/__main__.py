"""Brings releases into service, in three steps of which none disturbs what serves.

  1. stage     python -m training.exporting.export        writes release R; nothing that serves changes
  2. load R    python -m deploy.releases load R           checks its files, loads it beside the live one, computes once
  3. promote R python -m deploy.releases promote R        moves the pointer; the release before stays as the fallback
     back      python -m deploy.releases rollback         the fallback serves again, at once
     look      python -m deploy.releases status           prune --keep N deletes what nothing needs

A refused step says why and leaves all models and the pointer as they were.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from contract.errors import InputError
from contract.repository import Repository
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError
from deploy.releases.server import Server
from deploy.releases.status import table

TRITON = "localhost:8001"


def main() -> int:
    options = _parse()
    if not options.repository.is_dir():
        print(f"refused: there is no model repository {options.repository}", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        servers = [stack.enter_context(closing(Server(a, options.limit))) for a in options.triton or [TRITON]]
        controller = Controller(
            Repository(options.repository), servers, lambda line: print(line, flush=True), drain_s=options.drain
        )
        try:
            _COMMANDS[options.command](controller, options)
        except (InputError, ReleaseError) as error:
            print(f"{options.command} refused: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"{options.command} interrupted; status says how things stand", file=sys.stderr)
            return 130
    return 0


def _status(controller: Controller, _: argparse.Namespace) -> None:
    print(table(controller.repository, controller.servers))


def _prune(controller: Controller, options: argparse.Namespace) -> None:
    pruned = controller.prune(options.keep, stopped=options.stopped)
    print(f"deleted: {', '.join(map(str, pruned)) or 'nothing'}")


_COMMANDS: dict[str, Callable[[Controller, argparse.Namespace], None]] = {
    "load": lambda controller, options: controller.load(options.release),
    "promote": lambda controller, options: controller.promote(options.release),
    "rollback": lambda controller, _: controller.rollback(),
    "unload": lambda controller, options: controller.unload(options.release),
    "restore": lambda controller, _: controller.restore(),
    "status": _status,
    "prune": _prune,
}


def _parse() -> argparse.Namespace:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="where releases lie (default: %(default)s)"
    )
    everywhere.add_argument(
        "--triton", action="append", metavar="HOST:PORT",
        help="gRPC address of a Triton that serves from it; once for each (default: localhost:8001)",
    )  # fmt: skip
    everywhere.add_argument(
        "--limit", type=float, default=600.0, metavar="S",
        help="longest time for loading a model or one inference (default: %(default)g)",
    )  # fmt: skip
    everywhere.add_argument(
        "--drain", type=float, default=60.0, metavar="S",
        help="longest wait for rounds on a release before it is unloaded (default: %(default)g)",
    )  # fmt: skip
    parser = argparse.ArgumentParser(
        prog="python -m deploy.releases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in (
        ("load", "check a release's files, load it beside the live one, have every model compute once"),
        ("promote", "put a loaded release in service; the one before becomes the fallback"),
        ("unload", "drop a release that is neither live nor the fallback, say one that shall not be promoted"),
    ):
        each = commands.add_parser(name, parents=[everywhere], help=does, description=does)
        each.add_argument("release", type=int, metavar="R")
    for name, does in (
        ("rollback", "put the fallback in service again"),
        ("restore", "load the live release and the fallback into a Triton that has just started"),
        ("status", "each release: how far it has come, where it is from, its size, what is wrong with it"),
    ):
        commands.add_parser(name, parents=[everywhere], help=does, description=does)
    does = "delete old releases, never the live one, the fallback or a loaded one"
    prune = commands.add_parser("prune", parents=[everywhere], help=does, description=does)
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="the newest N stay, 1 at least")
    prune.add_argument("--stopped", action="store_true", help="no Triton serves from this repository now")
    options = parser.parse_args()
    if options.command == "prune" and options.keep < 1:
        parser.error(f"--keep must be at least 1, not {options.keep}")
    return options


if __name__ == "__main__":
    sys.exit(main())
