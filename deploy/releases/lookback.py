"""What served at a time, and all changes, for a person and for machines. Knows the history; changes nothing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from contract.errors import InputError
from contract.repository import Repository
from contract.rollout import Rollout
from deploy.releases import state
from deploy.releases.history import History, served_at

STATE_FIELDS = (
    "live", "fallback", "trial", "mixed_share", "exploration_share", "base", "holdback_share",
)  # fmt: skip
CLOCKS_DIFFER = timedelta(seconds=5)
COLUMNS = {
    "number": 3, "time": 23, "what": 13, "live": 4, "previous": 8, "fallback": 8, "trial": 5, "mixed": 6,
    "exploration": 11, "base": 4, "hold-back": 9, "announced": 9, "by": 24, "reason": 0,
}  # fmt: skip


def lines(repository: Repository) -> list[dict[str, Any]]:
    """Every change as in history.jsonl, and whether Kafka has acknowledged it.

    Raises:
        InputError: the history is out of form.
    """
    announced = History(repository.root).announced()
    return [change.to_json() | {"announced": change.number <= announced} for change in state.changes(repository)]


def table(changes: Sequence[Mapping[str, Any]]) -> str:
    """A line a change, oldest first."""
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(_row, changes)]
    shown = ["  ".join(f"{row[name]:<{width}}" for name, width in COLUMNS.items()).rstrip() for row in rows]
    return "\n".join(shown if changes else [*shown, "nothing has changed yet"])


def served(repository: Repository, time: datetime) -> dict[str, Any]:
    """The whole state at a time, `since` when, by which `change`.

    Before the first recorded change only the live release is known, and `since` is None.

    Raises:
        InputError: the time has not come yet, or the history is out of form.
    """
    now = datetime.now(UTC)
    if time > now + CLOCKS_DIFFER:
        raise InputError(f"{time:%Y-%m-%dT%H:%M:%SZ} has not come yet; it is {now:%Y-%m-%dT%H:%M:%SZ}")
    changes = state.changes(repository)
    asked = {"at": time.isoformat(timespec="milliseconds")}
    if (found := served_at(changes, time)) is not None:
        said = found.to_json()
        return asked | {name: said[name] for name in STATE_FIELDS} | {"since": said["time"], "change": said["number"]}
    live = changes[0].previous if changes else repository.live()
    return asked | dict.fromkeys(STATE_FIELDS) | {"live": live, "since": None, "change": None}


def told(served: Mapping[str, Any]) -> str:
    """The same in a line."""
    if served["live"] is None:
        return f"at {served['at']} no release was live"
    if served["since"] is None:
        return f"at {served['at']} release {served['live']} was live, from before the history begins"
    beside = state.told(Rollout.from_json(served))
    pointers = f"release {served['live']} was live, the fallback {served['fallback'] or 'none'}"
    return f"at {served['at']} {pointers}; {beside}; since {served['since']} (change {served['change']})"


def _row(change: Mapping[str, Any]) -> dict[str, Any]:
    said = {
        "time": change["time"][:23],
        "what": change["what"].removeprefix("CHANGE_").lower().replace("_", " "),
        "mixed": f"{change['mixed_share']:.1%}",
        "exploration": f"{change['exploration_share']:.1%}",
        "hold-back": f"{change['holdback_share']:.1%}",
        "announced": "yes" if change["announced"] else "no",
    }
    return {name: said.get(name, _dash(change.get(name))) for name in COLUMNS}


def _dash(value: Any) -> str:
    return "-" if value in (None, "") else str(value)
