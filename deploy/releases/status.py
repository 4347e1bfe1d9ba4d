"""What lies in a repository and how far each release has come, as a table.

    staged    exported: its files are there
    loading   some of its models are ready in Triton
    loaded    all of its models are ready in every Triton
    warm      … and each has answered an inference
    live, fallback    what the pointers say, beside the above

Knows how to ask and to print; changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import InputError
from contract.release import Manifest, read_manifest
from contract.repository import Repository, sha256
from deploy.releases.errors import ServerError
from deploy.releases.server import Server

HEAD = f"{'release':>7}  {'state':<16} {'models ready':<13} {'made':<20} {'commit':<8} {'size':>9}  problems"


@dataclass(frozen=True)
class ReleaseStatus:
    """One release. `problems` are sentences for a person."""

    number: int
    state: str
    ready: str  # "7 of 7", or "" where no Triton answers
    made: str
    commit: str
    size_bytes: int
    problems: Sequence[str] = field(default=())

    def __str__(self) -> str:
        size = f"{self.size_bytes / 2**20:.1f} MiB"
        told = "; ".join(self.problems) or "-"
        return f"{self.number:>7}  {self.state:<16} {self.ready:<13} {self.made:<20} {self.commit:<8} {size:>9}  {told}"


def table(repository: Repository, servers: Sequence[Server]) -> str:
    """All releases, oldest first, and what keeps the repository from serving."""
    lines, reachable = [], []
    for server in servers:
        try:
            server.states()
            reachable.append(server)
        except ServerError as error:
            lines.append(f"warning: {error}")
    hashes: dict[tuple[int, int], str] = {}
    found = [_status(repository, number, reachable, hashes) for number in repository.numbers()]
    try:
        live = repository.live()
    except InputError as error:
        live, lines = None, [*lines, f"warning: {error}"]
    if live is not None and live not in repository.numbers():
        lines.append(f"warning: release {live} is live and not there: load and promote another")
    if live is None or live in repository.numbers():
        lines.append(next_step(repository))
    rows = map(str, found) if found else ["none: export one"]
    return "\n".join([HEAD, *rows, *filter(None, lines)])


def next_step(repository: Repository) -> str:
    """What to do for the newest release to serve; empty where it does, or was rolled back."""
    live, numbers = repository.live(), repository.numbers()
    if not numbers:
        return ""
    newest = numbers[-1]
    if live is None:
        return f"no release is live yet: the first start of the platform promotes {newest}"
    if newest in (live, repository.fallback()):
        return ""
    return (
        f"release {live} is live; {newest} is newer and does not serve. For it to: "
        f"make release-load R={newest} && make release-promote R={newest}"
    )


def _status(
    repository: Repository, number: int, servers: Sequence[Server], hashes: dict[tuple[int, int], str]
) -> ReleaseStatus:
    problems = []
    try:
        repository.check(number, lambda path: _hashed(path, hashes))
    except InputError as error:
        problems.append(str(error))
    try:
        manifest = read_manifest(repository.release_dir(number))
    except InputError:
        return ReleaseStatus(number, "unreadable", "", "", "", repository.size_bytes(number), problems)
    pointer = {repository.live(): "live", repository.fallback(): "fallback"}.get(number)
    ready, warm, answered = _in_triton(manifest, servers)
    total = len(manifest.models)
    stage = "staged" if not ready else "loading" if ready < total else "warm" if warm else "loaded"
    if pointer and servers and ready < total:
        problems.append(f"{pointer}, but only {ready} of its {total} models are ready")
    return ReleaseStatus(
        number,
        f"{pointer}, {stage}" if pointer else stage,
        f"{ready} of {total}" if answered else "",
        manifest.create_time[:19],
        manifest.source_commit[:7],
        repository.size_bytes(number),
        problems,
    )


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
