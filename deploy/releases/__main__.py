"""Brings releases into service, in steps of which none disturbs what serves.

  1. stage     python -m training.exporting.export        writes release R; nothing that serves changes
  2. load R    python -m deploy.releases load R           checks its files, loads it beside the live one, computes once
  3. trial R   python -m deploy.releases trial R --share .5    R draws half of the candidates of mixed groups
     not so    python -m deploy.releases end-trial        it draws none any more
  4. promote R python -m deploy.releases promote R        moves the pointer; the release before stays as the fallback
     back      python -m deploy.releases rollback         the fallback serves again, at once; a trial ends
     beside    python -m deploy.releases shares           exploration, and a hold-back of merchants on a base release
     look      python -m deploy.releases status           also: history, served --at TIME
     clear     python -m deploy.releases prune --keep N   deletes what nothing needs

A trial may be left out. A refused step says why and leaves what serves, and all models that are needed, as they were.
With --kafka, every change is published (perfusion.v1.ReleaseChanged); what Kafka did not take is published with the
next command.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from contract.errors import InputError
from contract.kafka_access import KafkaAccess
from contract.repository import Repository
from deploy.releases import lookback, status
from deploy.releases.arguments import TRITON, parse
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError
from deploy.releases.history import History
from deploy.releases.server import Server, every_address

LOOKING = ("status", "history", "served", "announce")


def main() -> int:
    options = parse(str(__doc__))
    if not options.repository.is_dir():
        print(f"refused: there is no model repository {options.repository}", file=sys.stderr)
        return 1
    repository = Repository(options.repository)
    announcer = Announcer(repository, options.kafka, certificates_of(options))
    with ExitStack() as stack:
        try:
            addresses = every_address(options.triton or [TRITON])
        except ReleaseError as error:
            print(f"{options.command} refused: {error}", file=sys.stderr)
            return 1
        servers = [
            stack.enter_context(closing(Server(address, options.limit, options.certificates))) for address in addresses
        ]
        controller = Controller(
            repository,
            servers,
            lambda line: print(line, flush=True),
            drain_s=options.drain,
            announce=announcer,
            wait_s=options.wait,
            tensorrt=options.tensorrt,
        )
        try:
            _COMMANDS[options.command](controller, options)
        except (InputError, ReleaseError) as error:
            print(f"{options.command} refused: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"{options.command} failed: {error}; status says how things stand", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"{options.command} interrupted; status says how things stand", file=sys.stderr)
            return 130
        if options.command not in LOOKING:
            announcer()
    return 0


class Announcer:
    """Publishes what is owed; a Kafka that did not answer is not asked again."""

    def __init__(self, repository: Repository, kafka: str, certificates: Path | None = None) -> None:
        self._repository, self._kafka, self._certificates = repository, kafka, certificates

    def __call__(self) -> None:
        try:
            if self._kafka and History(self._repository.root).owed():
                announce(self._repository, self._kafka, self._certificates)
        except Exception as error:  # the change is made, and owed, whatever it is
            self._kafka = ""
            print(f"warning: {error}", file=sys.stderr)


def certificates_of(options: argparse.Namespace) -> Path | None:
    """What Kafka is shown."""
    shown: Path | None = options.kafka_certificates or options.certificates
    return shown


def announce(repository: Repository, kafka: str, certificates: Path | None) -> int:
    """announcing.announce; Kafka's client takes as long to import as a rollback may, so it is imported after that."""
    from deploy.releases import announcing

    return announcing.announce(repository, KafkaAccess(kafka, certificates))


def _announce(controller: Controller, options: argparse.Namespace) -> None:
    if not options.kafka:
        raise ReleaseError("give Kafka's address: --kafka HOST:PORT")
    print(f"published: {announce(controller.repository, options.kafka, certificates_of(options))}")


def _prune(controller: Controller, options: argparse.Namespace) -> None:
    pruned = controller.prune(options.keep, stopped=options.stopped)
    print(f"deleted: {', '.join(map(str, pruned)) or 'nothing'}")


def _status(controller: Controller, options: argparse.Namespace) -> None:
    seen = status.look(controller.repository, controller.servers)
    print(json.dumps(seen.to_json(), indent=1) if options.json else seen)


def _history(controller: Controller, options: argparse.Namespace) -> None:
    lines = lookback.lines(controller.repository)
    print("\n".join(map(json.dumps, lines)) if options.json else lookback.table(lines))


def _served(controller: Controller, options: argparse.Namespace) -> None:
    served = lookback.served(controller.repository, options.at)
    print(json.dumps(served, indent=1) if options.json else lookback.told(served))


_COMMANDS: dict[str, Callable[[Controller, argparse.Namespace], None]] = {
    "load": lambda controller, options: controller.load(options.release),
    "trial": lambda controller, options: controller.trial(options.release, options.share, options.reason),
    "end-trial": lambda controller, options: controller.end_trial(options.release, options.reason),
    "shares": lambda controller, options: controller.shares(
        options.exploration, options.holdback, options.base, options.reason
    ),
    "promote": lambda controller, options: controller.promote(options.release, options.reason),
    "rollback": lambda controller, options: controller.rollback(options.reason),
    "unload": lambda controller, options: controller.unload(options.release),
    "restore": lambda controller, _: controller.restore(),
    "prune": _prune,
    "announce": _announce,
    "status": _status,
    "history": _history,
    "served": _served,
}


if __name__ == "__main__":
    sys.exit(main())
