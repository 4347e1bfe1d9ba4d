"""What lies in a repository, how far each release has come, and what serves: for a person and for machines.

    staged    exported: its files are there
    loading   some of its models are ready in Triton
    loaded    all of its models are ready in every Triton
    warm      … and each has answered an inference
    live, fallback, trial, base    what it serves as, beside the above

Knows how to ask and to print; changes nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import InputError
from contract.release import Manifest, read_manifest
from contract.repository import Repository, sha256
from contract.rollout import Rollout
from deploy.releases import state
from deploy.releases.errors import ServerError
from deploy.releases.history import History
from deploy.releases.server import Server
from deploy.releases.state import State

HEAD = f"{'release':>7}  {'state':<21} {'models ready':<13} {'made':<20} {'commit':<8} {'size':>9}  problems"
GATES = ("offline", "traffic")


@dataclass(frozen=True)
class ReleaseStatus:
    """One release. `problems` are sentences for a person; `verdicts` are gates' files."""

    number: int
    roles: Sequence[str]  # of live, fallback, trial, base
    stage: str
    ready: str  # "7 of 7", or "" where no Triton answers
    made: str
    commit: str
    size_bytes: int
    trained_on: Mapping[str, str] = field(default_factory=dict)
    verdicts: Sequence[Mapping[str, Any]] = field(default=())
    problems: Sequence[str] = field(default=())

    def __str__(self) -> str:
        size, doing = f"{self.size_bytes / 2**20:.1f} MiB", ", ".join([*self.roles, self.stage])
        told = "; ".join(self.problems) or "-"
        row = f"{self.number:>7}  {doing:<21} {self.ready:<13} {self.made:<20} {self.commit:<8} {size:>9}  {told}"
        trained_on = [f"trained on {', '.join(f'{k} {v}' for k, v in self.trained_on.items())}"]
        below = [*(trained_on if self.trained_on else []), *map(_verdict, self.verdicts)]
        return "\n".join([row, *(f"{'':>9}{line}" for line in below)])


@dataclass(frozen=True)
class Status:
    """All releases, oldest first; what serves; sentences for a person."""

    releases: Sequence[ReleaseStatus]
    serving: State
    owed: int  # changes that Kafka has not acknowledged
    remarks: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """For machines; without the salt, by which arms could be chosen."""
        serving = self.serving.to_json()
        del serving["rollout"]["salt"]
        return serving | {"releases": [asdict(r) for r in self.releases], "owed": self.owed, "remarks": self.remarks}

    def __str__(self) -> str:
        rows = map(str, self.releases) if self.releases else ["none: export one"]
        rollout = self.serving.rollout
        beside = [state.told(rollout)] if rollout != Rollout(salt=rollout.salt) else []
        owed = [f"changes that Kafka has not acknowledged: {self.owed}; announce"] if self.owed else []
        return "\n".join([HEAD, *rows, *beside, *owed, *self.remarks])


def look(repository: Repository, servers: Sequence[Server]) -> Status:
    """Asks files and Tritons; what cannot be read becomes a remark."""
    remarks, reachable = [], []
    for server in servers:
        try:
            server.states()
            reachable.append(server)
        except ServerError as error:
            remarks.append(f"warning: {error}")
    serving, owed = State(None, None, Rollout()), 0
    try:
        serving, damage = state.as_it_is(repository)
        remarks += [f"warning: {damage}; {state.MENDED}"] if damage else []
        changes = state.changes(repository)
        owed = sum(change.number > History(repository.root).announced() for change in changes)
        remarks += filter(None, [next_step(repository)])
        if changes and changes[-1].live != serving.live:
            remarks.append(f"warning: the history ends with release {changes[-1].live}: the pointer was moved by hand")
    except InputError as error:
        remarks.append(f"warning: {error}")
    hashes: dict[tuple[int, int], str] = {}
    releases = [_release(repository, number, serving, reachable, hashes) for number in repository.numbers()]
    missing = sorted(serving.served - set(repository.numbers()))
    remarks += [f"warning: release {number} serves and is not there: load and promote another" for number in missing]
    return Status(releases, serving, owed, remarks)


def next_step(repository: Repository) -> str:
    """What to do for the newest release to serve; empty where it does, was rolled back, or a gate has judged it."""
    (found, _), numbers = state.as_it_is(repository), repository.numbers()
    if not numbers:
        return ""
    newest = numbers[-1]
    if found.live is None:
        return f"no release is live yet: the first start of the platform promotes {newest}"
    if newest in found.needed or any(_verdict_file(repository, newest, gate).exists() for gate in GATES):
        return ""
    return (
        f"release {found.live} is live; {newest} is newer and does not serve. For it to: "
        f"make release-load R={newest} && make release-promote R={newest}"
    )


def _release(
    repository: Repository, number: int, serving: State, servers: Sequence[Server], hashes: dict[tuple[int, int], str]
) -> ReleaseStatus:
    problems = []
    try:
        repository.check(number, lambda path: _hashed(path, hashes))
    except InputError as error:
        problems.append(str(error))
    verdicts = _verdicts(repository, number, problems)
    try:
        manifest = read_manifest(repository.release_dir(number))
    except InputError:
        size = repository.size_bytes(number)
        return ReleaseStatus(number, (), "unreadable", "", "", "", size, verdicts=verdicts, problems=problems)
    named = {
        "live": serving.live, "fallback": serving.fallback, "trial": serving.trial, "base": serving.rollout.base,
    }  # fmt: skip
    roles = [role for role, of in named.items() if of == number]
    ready, warm, answered = _in_triton(manifest, servers)
    total = len(manifest.models)
    stage = "staged" if not ready else "loading" if ready < total else "warm" if warm else "loaded"
    if roles and servers and ready < total:
        problems.append(f"{', '.join(roles)}, but only {ready} of its {total} models are ready")
    return ReleaseStatus(
        number,
        roles,
        stage,
        f"{ready} of {total}" if answered else "",
        manifest.create_time[:19],
        manifest.source_commit[:7],
        repository.size_bytes(number),
        manifest.trained_on,
        verdicts,
        problems,
    )


def _verdicts(repository: Repository, number: int, problems: list[str]) -> list[Mapping[str, Any]]:
    """What gates said of a release; a file that cannot be read is a problem."""
    found: list[Mapping[str, Any]] = []
    for gate in GATES:
        path = _verdict_file(repository, number, gate)
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            found.append({"kind": gate, "verdict": str(said["verdict"])} | dict(said))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{path} is no verdict: {error!r}")
    return found


def _verdict_file(repository: Repository, number: int, gate: str) -> Path:
    return repository.root / "releases" / "verdicts" / f"{number}-{gate}.json"


def _verdict(said: Mapping[str, Any]) -> str:
    e_value = f", e-value {said['e_value']:.3g}" if isinstance(said.get("e_value"), int | float) else ""
    groups = f", {said['groups']} groups" if said.get("groups") is not None else ""
    reasons = said.get("reasons") or [""]
    return f"{said['kind']} gate: {said['verdict']}{e_value}{groups}" + (f": {reasons[0]}" if reasons[0] else "")


def _in_triton(manifest: Manifest, servers: Sequence[Server]) -> tuple[int, bool, bool]:
    """How many models are ready in every Triton, whether all have computed, whether a Triton answered."""
    places = [(server.states(), server.inferences()) for server in servers]
    if not places:
        return 0, False, False
    of = [(model, manifest.release) for model in manifest.models]
    ready = sum(all(states.get(m, {}).get(n) == "READY" for states, _ in places) for m, n in of)
    return ready, all(counts.get(key, 0) > 0 for _, counts in places for key in of), True


def _hashed(path: Path, known: dict[tuple[int, int], str]) -> str:
    """A file that releases share is read once."""
    stat = path.stat()
    key = (stat.st_dev, stat.st_ino)
    if key not in known:
        known[key] = sha256(path)
    return known[key]
