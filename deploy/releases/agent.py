"""Brings releases from an object store to a machine, and says there what serves: the model repository of a cluster.

    python -m deploy.releases.agent push 7 --store s3://bucket/releases       release 7 of this repository, once for all
    python -m deploy.releases.agent lead --store s3://bucket/releases      beside the one who changes what serves
    python -m deploy.releases.agent fetch --store s3://bucket/releases     once, before a service or a Triton starts
    python -m deploy.releases.agent follow --store s3://bucket/releases    then all the time, beside it

`deploy.releases` works on the leader's repository as on a single machine; the leader publishes what it changes, and
followers have it within two polls. A follower fetches a release before it says that it serves, so no service reads of
one that it does not have. With --triton, it also keeps what serves loaded there, say after a restart, and touches
--ready-file while it computes. The newest releases are fetched before anybody asks for them, so that they can be
loaded. With --texts-only, models are left out: services read the other files alone. With --tensorrt VERSION-smNN, the
plans that python -m deploy.tensorrt has stored for that GPU are fetched, too; docs/kubernetes.md says what they are.

A leader ends when another one has published: started again, it goes on from there.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from contract.errors import InputError
from contract.kafka_access import VARIABLE as KAFKA_CERTIFICATES_VARIABLE
from contract.kafka_access import KafkaAccess
from contract.release import read_manifest
from contract.repository import STATE, Repository, write_durably
from contract.rollout import Rollout
from deploy.releases import model_config, state
from deploy.releases.arguments import CERTIFICATES_VARIABLE
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.server import Server
from deploy.releases.store import CONFIG, Numbered, Store, TakenError, forget
from deploy.releases.tensorrt import ONNX_RUNTIME, PLAN, VARIABLE, Setting, argument, key
from deploy.releases.tritons import Tritons

POLL_S = 2.0
LONGEST_PAUSE_S = 30.0  # while the store does not answer
GRACE_S = 900.0  # a release that nothing needs any more stays for rounds that began on it
LOCK_WAIT_S = 10.0
PROOF_S = 5.0  # for one inference of each model of the live release
PROVEN_EVERY = 5  # looks
POINTER = "current"  # written last
SAYS = ("rollout.json", "fallback", "history.jsonl", "announced", POINTER)  # what serves, in the order of writing

Say = Callable[[str], None]


def snapshot(repository: Repository) -> dict[str, Any]:
    """What serves, the history and the verdicts, as one."""
    folder = repository.root / "releases"
    with repository.lock(STATE, "publish", LOCK_WAIT_S):
        verdicts = sorted(folder.glob("verdicts/*.json"))
        files = [folder / name for name in SAYS if (folder / name).exists()]
        return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in [*verdicts, *files]}


def adopt(repository: Repository, said: dict[str, Any]) -> None:
    """Makes a repository say what another one's snapshot said; every state on the way serves."""
    folder = repository.root / "releases"
    with repository.lock(STATE, "adopt", LOCK_WAIT_S):
        for name in [name for name in said if name not in SAYS] + [name for name in SAYS if name in said]:
            path = folder / name
            if not path.exists() or path.read_text(encoding="utf-8") != said[name]:
                write_durably(path, said[name])
        if "fallback" not in said:
            (folder / "fallback").unlink(missing_ok=True)


def needed_by(said: dict[str, Any]) -> set[int]:
    """The releases that a snapshot names: those that serve, and the one that a rollback goes back to.

    Raises:
        ReleaseError: it cannot be read.
    """
    try:
        pointed = {int(said[name]) for name in (POINTER, "fallback") if name in said}
        rollout = Rollout.from_json(json.loads(said.get("rollout.json", "{}")))
        return pointed | rollout.releases
    except (ValueError, TypeError, KeyError, InputError) as error:
        raise ReleaseError(f"what serves cannot be read from the store: {error}") from error


@dataclass
class Mirror:
    """A repository that is filled from a store.

    Args:
        keep: how many of the newest releases are fetched, beside those that are needed.
    """

    store: Store
    repository: Repository
    say: Say
    keep: int = 2
    models: bool = True  # whether they are fetched, too
    known: int = 0  # number of the newest state that was adopted
    tensorrt: Setting = ONNX_RUNTIME  # whose plans are fetched, too
    _unwanted: dict[int, float] = field(default_factory=dict)  # release → since when nothing needs it
    _without: set[str] = field(default_factory=set)  # keys of models that have no plan

    def look(self) -> None:
        """Fetches what is new and needed, then adopts what serves.

        Raises:
            ReleaseError: the store does not answer, or a release is damaged there. What was there before stays.
        """
        newer = self.store.state(self.known)
        needed = self.repository.needed() if newer is None else needed_by(newer.content)
        self.fetch(needed)
        if newer is not None:
            adopt(self.repository, newer.content)
            self.known = newer.number
            self.say(f"state {newer.number}: release {self.repository.live()} serves")
        self._forget_others(needed)

    def fetch(self, needed: set[int]) -> None:
        """These releases and the newest ones, as far as they are not here."""
        wanted = needed | set(self.store.numbers()[-self.keep :])
        for number in sorted(wanted - set(self.repository.numbers())):
            began = time.monotonic()
            self.store.fetch(self.repository, number, models=self.models)
            self.say(f"release {number} is here after {time.monotonic() - began:.1f} s")
        if self.models and self.tensorrt.target is not None:
            self._fetch_plans(str(self.tensorrt.target))

    def _fetch_plans(self, target: str) -> None:
        """Those that were found since, for releases that are here. A model without one is served by ONNX Runtime."""
        there = self.store.plans(target)
        for number in self.repository.numbers():
            for model, entry in read_manifest(self.repository.release_dir(number)).models.items():
                path = self.repository.model_dir(model, number) / PLAN
                name = key(entry, (self.repository.root / model / CONFIG).read_text(encoding="utf-8"))
                if name in there - self._without and not path.exists():
                    if self.store.fetch_plan(target, name, path, self.repository):
                        self.say(f"the plan of {model} {number} for {target} is here")
                    else:
                        self._without.add(name)

    def _forget_others(self, needed: set[int]) -> None:
        numbers, now = self.repository.numbers(), time.monotonic()
        others = set(numbers) - needed - set(numbers[-self.keep :])
        self._unwanted = {number: self._unwanted.get(number, now) for number in others}
        if gone := {number for number, since in self._unwanted.items() if now - since > GRACE_S}:
            forget(self.repository, gone)
            self.say(f"removed: {', '.join(map(str, sorted(gone)))}")


@dataclass
class Leader:
    """Publishes what is changed in a repository."""

    mirror: Mirror
    announce: Callable[[], object] = lambda: None
    _published: dict[str, Any] | None = None

    def look(self) -> None:
        """At first adopts what serves, if anything does; then publishes what changed, tells Kafka, fetches releases.

        Raises:
            TakenError: another leader has published. What is here does not count any more.
        """
        mirror = self.mirror
        if self._published is None:
            mirror.look()
            self._published = snapshot(mirror.repository) if mirror.known else {}
        if (other := mirror.store.state(mirror.known)) is not None:
            raise TakenError(f"another leader has published state {other.number}; start again to go on from there")
        mirror.fetch(mirror.repository.needed())
        said = snapshot(mirror.repository)
        if POINTER in said and said != self._published:
            mirror.store.publish(Numbered(mirror.known + 1, said))
            mirror.known, self._published = mirror.known + 1, said
            mirror.say(f"published: state {mirror.known}, release {mirror.repository.live()} serves")
            self.announce()


@dataclass
class Loader:
    """Keeps what serves loaded in one Triton, say after a restart."""

    repository: Repository
    server: Server
    say: Say
    tensorrt: Setting = ONNX_RUNTIME

    def look(self) -> None:
        """Loads what is needed and not loaded, the live release first. One that cannot be holds up no other."""
        root, configure = self.repository.root, model_config.of_repository
        tritons = Tritons(root, [self.server], self.say, configure, 0.0, self.tensorrt)
        live, needed = self.repository.live(), self.repository.needed()
        failed: list[str] = []
        for number in sorted(needed, key=lambda number: (number != live, number)):
            manifests = {number: read_manifest(self.repository.release_dir(number))}
            try:
                if tritons.lacking(manifests):
                    tritons.load(manifests)
            except ServerError as error:
                failed.append(f"release {number} cannot be loaded: {error}")
        if failed:
            raise ReleaseError("; ".join(failed))


@dataclass
class Readiness:
    """Touches a file while one Triton can compute whatever a request may need."""

    repository: Repository
    server: Server
    file: Path
    say: Say
    _looks: int = 0
    _proven: int | None = None  # the live release that has computed

    def look(self) -> None:
        """One look; every fifth has the live release compute, and the first after another one became live.

        Raises:
            ReleaseError: the Triton is not ready; the message says why.
        """
        serving = state.read(self.repository)
        if (live := serving.live) is None:
            raise ReleaseError("nothing serves yet")
        tritons = Tritons(self.repository.root, [self.server], self.say, model_config.of_repository, 0.0)
        manifests = {number: read_manifest(self.repository.release_dir(number)) for number in serving.served}
        if lacking := tritons.lacking(manifests):
            raise ReleaseError(f"not ready: release {', '.join(map(str, sorted(lacking)))} is not loaded")
        if self._proven != live or self._looks % PROVEN_EVERY == 0:
            if not tritons.prove_within(manifests[live], PROOF_S):
                self._proven = live
            elif self._proven != live:  # one that has computed, and is merely slow now, stays ready
                raise ReleaseError(f"not ready: release {live} has not computed in {PROOF_S:g} s")
        self._looks += 1
        self.file.touch()


def repeat(look: Callable[[], object], say: Say, *, times: int | None = None) -> None:
    """Looks again and again. A failure is told of once, and tried again later and later.

    Raises:
        TakenError: another leader is at work; no repetition mends that.
    """
    told = ""
    for _ in range(times) if times is not None else count():
        try:
            look()
            pause_s, told = POLL_S, ""
        except TakenError:
            raise
        except (ReleaseError, InputError, OSError) as error:
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if told else 2 * POLL_S
            if str(error) != told:
                say(f"warning: {error}")
            told = str(error)
        time.sleep(pause_s)


def main() -> int:
    options = _parse()
    # The first process of a container has no default action: without a handler it would live until it is killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    repository, say = Repository(options.repository), _say
    try:
        store = Store(options.store)
        if options.command == "push":
            store.push(repository, options.release)
            say(f"release {options.release} is in {options.store}")
            return 0
        options.repository.mkdir(parents=True, exist_ok=True)
        models = not getattr(options, "texts_only", False)
        mirror = Mirror(store, repository, say, options.keep, models, tensorrt=options.tensorrt)
        if options.command == "fetch":
            mirror.look()
        elif options.command == "lead":
            repeat(Leader(mirror, _announcing(repository, options.kafka, options.kafka_certificates, say)).look, say)
        else:
            _follow(mirror, options)
    except (ReleaseError, InputError, OSError) as error:
        print(f"{options.command} stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _follow(mirror: Mirror, options: argparse.Namespace) -> None:
    looks: list[Callable[[], object]] = [mirror.look]
    if options.triton:  # each with a connection of its own: a load may take minutes
        server = Server(options.triton, options.limit, options.certificates)
        looks.append(Loader(mirror.repository, server, mirror.say, mirror.tensorrt).look)
    if options.triton and options.ready_file:
        server = Server(options.triton, options.limit, options.certificates)
        looks.append(Readiness(mirror.repository, server, options.ready_file, mirror.say).look)
    side_by_side([partial(repeat, look, mirror.say) for look in looks])


def side_by_side(works: Sequence[Callable[[], object]]) -> None:
    """Each in a thread; none ends but by a fault, which is raised and ends all."""
    faults: SimpleQueue[BaseException] = SimpleQueue()

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            faults.put(error)

    for work in works:
        threading.Thread(target=run, args=(work,), daemon=True).start()
    raise faults.get()


def _announcing(repository: Repository, kafka: str, certificates: Path | None, say: Say) -> Callable[[], object]:
    """Tells Kafka what it has not been told; what it does not take stays owed."""
    if not kafka:
        return lambda: None
    from deploy.releases import announcing

    access = KafkaAccess(kafka, certificates)

    def announce() -> None:
        try:
            announcing.announce(repository, access)
        except ReleaseError as error:
            say(f"warning: {error}")

    return announce


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.releases.agent",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--store", required=True, metavar="URL", help="what fsspec knows, such as s3://bucket/folder"
    )
    everywhere.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="of releases (default: %(default)s)"
    )
    everywhere.add_argument(
        "--keep", type=int, default=2, metavar="N", help="fetch the newest N, and what is needed (default: %(default)s)"
    )
    everywhere.add_argument(
        "--tensorrt", type=argument, default=os.environ.get(VARIABLE, ""), metavar="HOW",
        help=f"off, provider, or VERSION-smNN: whose plans are fetched and served (default: ${VARIABLE}, or off)",
    )  # fmt: skip
    push = commands.add_parser("push", parents=[everywhere], help="store a release, for all machines")
    push.add_argument("release", type=int, metavar="R")
    lead = commands.add_parser("lead", parents=[everywhere], help="publish what deploy.releases changes here")
    lead.add_argument("--kafka", default="", metavar="HOST:PORT", help="where changes are told once they are published")
    lead.add_argument(
        "--kafka-certificates",
        type=Path,
        default=os.environ.get(KAFKA_CERTIFICATES_VARIABLE) or None,
        metavar="FOLDER",
        help=f"tls.crt, tls.key and ca.crt, for it (default: ${KAFKA_CERTIFICATES_VARIABLE}; without, clear text)",
    )
    fetch = commands.add_parser("fetch", parents=[everywhere], help="once: what serves, and the newest releases")
    follow = commands.add_parser("follow", parents=[everywhere], help="the same, all the time")
    for each in (fetch, follow):
        each.add_argument("--texts-only", action="store_true", help="without models, for a service")
    follow.add_argument("--triton", metavar="HOST:PORT", help="keep what serves loaded there")
    follow.add_argument("--ready-file", type=Path, metavar="FILE", help="touched at every look while it is")
    follow.add_argument(
        "--certificates",
        type=Path,
        default=os.environ.get(CERTIFICATES_VARIABLE) or None,
        metavar="FOLDER",
        help=f"tls.crt, tls.key and ca.crt, for Triton (default: ${CERTIFICATES_VARIABLE}; without, clear text)",
    )
    follow.add_argument("--limit", type=float, default=600.0, metavar="S", help="longest load (default: %(default)g)")
    options = parser.parse_args()
    if options.command == "follow" and options.texts_only and options.triton:
        parser.error("--triton loads models, which --texts-only leaves out")
    if options.keep < 1:
        parser.error(f"--keep must be at least 1, not {options.keep}")
    return options


if __name__ == "__main__":
    sys.exit(main())
