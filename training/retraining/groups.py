"""From events to LAKE/groups: each group with its counting pick, as soon as both are there.

What waits for its other half is known at any time. Memory holds ids of groups (8 bytes each), picks that wait, and the
latest groups up to a limit; what is older is looked up in the events. Everything follows from the events alone, so a
derivation that is done again gives the same rows. Knows events and rows; nothing about Kafka.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deltalake import DeltaTable
from perfusion.v1.events_pb2 import GroupGenerated

from contract.topics import Partition
from training.retraining import raw
from training.retraining.incoming import GROUP, PICK, Event
from training.retraining.joining import counting, misfit, row_of
from training.retraining.seen import Seen

_MOST_KEPT_BYTES = 256 * 2**20


@dataclass
class Derived:
    """What a batch of events gives."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # at most one a group
    corrects: bool = False  # a row may stand in the place of one that is there
    unfit: list[tuple[Event, str]] = field(default_factory=list)  # picks that are none of their group's, and why


class Groups:
    """The join of groups and picks, over all events of a table."""

    def __init__(self, events: DeltaTable, picked: Iterable[str], behind: Mapping[Partition, int]) -> None:
        """`picked`: the ids of the groups that have a row; `behind`: from where on events are not derived yet."""
        self.picked = Seen(picked)
        self.generated = Seen()
        self.waiting: dict[str, dict[str, Event]] = {}  # picks whose group is not there: group_id → event_id → pick
        self._latest: OrderedDict[str, bytes] = OrderedDict()
        self._latest_bytes = 0
        told, underived = set[str](), set[str]()  # groups without a row of which a pick was derived; underived groups
        for kind, group_id, is_behind in raw.ids(events, behind):
            if kind == GROUP:
                self.generated.add([group_id])
                underived |= {group_id} if is_behind else set()
            elif not is_behind and group_id not in self.picked:
                told.add(group_id)
        if lost := [group_id for group_id in told if group_id in underived or group_id not in self.generated]:
            self._wait(raw.about(events, lost, PICK))

    @property
    def waiting_picks(self) -> int:
        return sum(map(len, self.waiting.values()))

    @property
    def waiting_groups(self) -> int:
        return max(0, len(self.generated) - len(self.picked))

    def oldest(self) -> datetime | None:
        """When the oldest pick that waits was sent."""
        return min((pick.event_time for picks in self.waiting.values() for pick in picks.values()), default=None)

    def derive(self, new: Sequence[Event], events: DeltaTable, rows: DeltaTable) -> Derived:
        """The rows that these events make or change; `events` holds them already, `rows` is LAKE/groups before."""
        for event in new:
            if event.event_type == GROUP:
                self.generated.add([event.group_id])
                self._keep(event)
        touched = {e.group_id for e in new if e.event_type == PICK or e.group_id in self.waiting}
        groups = self._groups(touched, events)
        picks = self._picks(touched & groups.keys(), new)
        standing = self._standing(picks, events, rows)
        self._wait(event for event in new if event.event_type == PICK and event.group_id not in groups)
        derived, fresh = Derived(), {event.event_id for event in new}
        for group_id, of_group in picks.items():
            told = [(event, misfit(event.pick, groups[group_id])) for event in of_group.values()]
            fitting = [event for event, why in told if why is None]
            if fitting and (best := counting(fitting).pick).sequence > standing.get(group_id, -1):
                derived.rows.append(row_of(groups[group_id], best))
                derived.corrects |= group_id in self.picked
            waiting = self.waiting.get(group_id, {})
            unfit = [(event, why) for event, why in told if why is not None]
            derived.unfit += [(e, why) for e, why in unfit if e.event_id in fresh or e.event_id in waiting]
        return derived

    def settled(self, derived: Derived) -> None:
        """The rows are in the table."""
        done = [row["group_id"] for row in derived.rows]
        self.picked.add(done)
        for group_id in (*done, *(pick.group_id for pick, _ in derived.unfit)):
            self.waiting.pop(group_id, None)

    def _groups(self, wanted: set[str], events: DeltaTable) -> dict[str, GroupGenerated]:
        found = {name: GroupGenerated.FromString(self._latest[name]) for name in wanted if name in self._latest}
        older = [name for name in wanted if name not in found and name in self.generated]
        for event in raw.about(events, older, GROUP) if older else ():
            found.setdefault(event.group_id, event.group)
        return found

    def _picks(self, wanted: set[str], new: Sequence[Event]) -> dict[str, dict[str, Event]]:
        """The picks in hand of these groups, new ones and those that waited, by event_id."""
        found: dict[str, dict[str, Event]] = {name: dict(self.waiting.get(name, {})) for name in sorted(wanted)}
        for event in new:
            if event.event_type == PICK and event.group_id in found:
                found[event.group_id][event.event_id] = event
        return {name: picks for name, picks in found.items() if picks}

    def _standing(self, picks: dict[str, dict[str, Event]], events: DeltaTable, rows: DeltaTable) -> dict[str, int]:
        """The sequences of the rows that picks in hand may correct. Where one of them has the same sequence, their
        places in the topic decide: then the group's earlier picks are added to `picks`, and its row does not count."""
        earlier = [name for name in picks if name in self.picked]
        found = raw.sequences(rows, earlier) if earlier else {}
        tied = [n for n in earlier if n not in found or any(e.pick.sequence == found[n] for e in picks[n].values())]
        for event in raw.about(events, tied, PICK) if tied else ():
            picks[event.group_id][event.event_id] = event
        return {name: sequence for name, sequence in found.items() if name not in tied}

    def _wait(self, picks: Iterable[Event]) -> None:
        for pick in picks:
            self.waiting.setdefault(pick.group_id, {})[pick.event_id] = pick

    def _keep(self, event: Event) -> None:
        if event.group_id in self._latest:
            return
        value = event.record.value or b""
        self._latest[event.group_id] = value
        self._latest_bytes += len(value)
        while self._latest_bytes > _MOST_KEPT_BYTES:
            _, gone = self._latest.popitem(last=False)
            self._latest_bytes -= len(gone)
