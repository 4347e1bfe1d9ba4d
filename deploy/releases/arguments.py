"""The command line of `python -m deploy.releases`. Knows names and defaults; not what the commands do."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.kafka_access import VARIABLE as KAFKA_CERTIFICATES_VARIABLE
from contract.repository import LOCK_WAIT_S
from deploy.releases.history import parsed_time
from deploy.releases.tensorrt import VARIABLE, argument

TRITON = "localhost:8001"
KAFKA_VARIABLE = "PERFUSION_KAFKA_BOOTSTRAP"  # as services read it
CERTIFICATES_VARIABLE = "PERFUSION_CERTIFICATES"  # the same


def parse(description: str) -> argparse.Namespace:
    """What the command line says; ends the process where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.releases", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = _Commands(parser.add_subparsers(dest="command", required=True))
    _add_steps(commands)
    _add_looks(commands)
    options = parser.parse_args()
    if options.command == "prune" and options.keep < 1:
        parser.error(f"--keep must be at least 1, not {options.keep}")
    if options.command == "shares" and (options.exploration, options.holdback, options.base) == (None, None, None):
        parser.error("shares needs --exploration, --holdback or --base")
    return options


def _add_steps(commands: "_Commands") -> None:
    does = "check a release's files, load it beside those that serve, have every model compute once"
    commands.add("load", does, release=True)
    does = "let a loaded release draw half of the candidates of mixed groups"
    commands.add("trial", does, release=True, reason=True).add_argument(
        "--share", type=float, required=True, help="of requests that get a mixed group, above 0 and at most 1"
    )
    end_trial = commands.add("end-trial", "take the release on trial out of mixed groups", reason=True)
    end_trial.add_argument("release", type=int, metavar="R", nargs="?", help="refused if another one is on trial")
    shares = commands.add("shares", "exploration, and a hold-back of merchants on a base release", reason=True)
    shares.add_argument("--exploration", type=float, metavar="SHARE", help="of requests, with more variety")
    shares.add_argument("--holdback", type=float, metavar="SHARE", help="of merchants, always the same")
    shares.add_argument("--base", type=int, metavar="R", help="loaded release of the hold-back, which stays; 0: none")
    does = "put a loaded release in service; the one before becomes the fallback"
    commands.add("promote", does, release=True, reason=True)
    commands.add("rollback", "put the fallback in service again, end a trial", reason=True)
    does = "drop a loaded release that nothing needs, say one that shall not be promoted"
    commands.add("unload", does, release=True)
    commands.add("restore", "load what serves, and the fallback, into a Triton that has just started")
    prune = commands.add("prune", "delete old releases, never one that serves, the fallback or a loaded one")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="the newest N stay, 1 at least")
    prune.add_argument("--stopped", action="store_true", help="no Triton serves from this repository now")
    commands.add("announce", "publish the changes that Kafka has not acknowledged yet")


def _add_looks(commands: "_Commands") -> None:
    status = commands.add("status", "each release: how far it has come, its verdicts, what is wrong; what else serves")
    history = commands.add("history", "every change: when, what, why, by whom")
    served = commands.add("served", "what served at a time")
    does = "ISO 8601, UTC without a zone (default: now)"
    served.add_argument("--at", type=_time, default=datetime.now(UTC), metavar="TIME", help=does)
    for each in (status, history, served):
        each.add_argument("--json", action="store_true", help="for machines")


class _Commands:
    """Adds commands with the options that all of them have."""

    def __init__(self, commands: Any) -> None:
        self._commands = commands
        self._everywhere = everywhere = argparse.ArgumentParser(add_help=False)
        everywhere.add_argument(
            "--repository", type=Path, default=Path("model_repository"), help="of releases (default: %(default)s)"
        )
        everywhere.add_argument(
            "--triton", action="append", metavar="HOST:PORT",
            help=f"gRPC address of a Triton that serves from it, or a name of several (default: {TRITON})",
        )  # fmt: skip
        everywhere.add_argument(
            "--kafka", default=os.environ.get(KAFKA_VARIABLE, ""), metavar="HOST:PORT",
            help=f"where changes are published; by commas (default: ${KAFKA_VARIABLE}; without, they stay owed)",
        )  # fmt: skip
        everywhere.add_argument(
            "--certificates", type=Path, default=os.environ.get(CERTIFICATES_VARIABLE) or None, metavar="FOLDER",
            help=f"tls.crt, tls.key and ca.crt, for Triton (default: ${CERTIFICATES_VARIABLE}; without, clear text)",
        )  # fmt: skip
        everywhere.add_argument(
            "--kafka-certificates", type=Path, default=os.environ.get(KAFKA_CERTIFICATES_VARIABLE) or None,
            metavar="FOLDER", help=f"the same, for Kafka (default: ${KAFKA_CERTIFICATES_VARIABLE}, or --certificates)",
        )  # fmt: skip
        everywhere.add_argument(
            "--limit", type=float, default=600.0, metavar="S",
            help="longest time for loading a model or one inference (default: %(default)g)",
        )  # fmt: skip
        everywhere.add_argument(
            "--drain", type=float, default=60.0, metavar="S",
            help="longest wait for rounds on a release before it is unloaded (default: %(default)g)",
        )  # fmt: skip
        everywhere.add_argument(
            "--tensorrt", type=argument, default=os.environ.get(VARIABLE, ""), metavar="HOW",
            help=f"how models are loaded: off, provider, or VERSION-smNN by plans (default: ${VARIABLE}, or off)",
        )  # fmt: skip
        everywhere.add_argument(
            "--wait", type=float, default=LOCK_WAIT_S, metavar="S",
            help="longest wait for another command that changes this repository (default: %(default)g)",
        )  # fmt: skip

    def add(self, name: str, does: str, *, release: bool = False, reason: bool = False) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = self._commands.add_parser(
            name, parents=[self._everywhere], help=does, description=does
        )
        if release:
            added.add_argument("release", type=int, metavar="R")
        if reason:
            added.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")
        return added


def _time(text: str) -> datetime:
    try:
        return parsed_time(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-26T07:30:00Z") from None
