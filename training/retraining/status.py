"""How far collecting has come: offsets and lag, what waits, dead letters, the tables' versions.

Knows how to read them; changes nothing.
"""

from datetime import UTC, datetime
from typing import Any

from deltalake import DeltaTable

from contract.kafka_access import KafkaAccess
from contract.topics import DEAD_LETTERS, SHOP, Partition
from training.common.reports import as_json
from training.retraining import offsets, raw
from training.retraining.broker import Broker
from training.retraining.groups import Groups
from training.retraining.lake import SCHEMAS, Lake


def state(lake: Lake, kafka: KafkaAccess) -> dict[str, Any]:
    """The state as JSON values. Where there are no tables yet, nothing is read and nothing waits."""
    broker = Broker(kafka)
    try:
        partitions = broker.partitions()
        bounds = broker.bounds(partitions)
        letters = broker.bounds(broker.partitions([DEAD_LETTERS]))
    finally:
        broker.close()
    found: dict[str, Any] = {"lake": lake.uri, "cluster_id": partitions[0].cluster_id}
    events = lake.open("events") if lake.exists("events") else None
    shop = lake.open("shop") if lake.exists("shop") else None

    def next_of(p: Partition) -> int:
        table = shop if p.topic == SHOP else events
        return (table.transaction_version(offsets.name_of(p)) if table else None) or 0

    found["partitions"] = [
        {"topic": p.topic, "partition": p.number, "offset": (at := next_of(p)), "end": bounds[p].end}
        | {"lag": bounds[p].end - max(at, bounds[p].begin)}
        for p in partitions
    ]
    found["dead_letters"] = sum(held.end - held.begin for held in letters.values())
    found["tables"] = {name: _table(lake, name) for name in SCHEMAS}
    return found | {"waiting": _waiting(lake, events) if events else None}


def _table(lake: Lake, name: str) -> dict[str, Any] | None:
    if not lake.exists(name):
        return None
    table = lake.open(name)
    return {
        "version": table.version(), "rows": table.to_pyarrow_dataset().count_rows(), "files": len(table.file_uris()),
    }  # fmt: skip


def _waiting(lake: Lake, events: DeltaTable) -> dict[str, Any]:
    """What has no other half, and since when."""
    picked = set(raw.column(lake.open("groups"), "group_id"))
    picks = Groups(events, picked, {})
    oldest_group = min((time for group_id, time in raw.generated(events) if group_id not in picked), default=None)
    return {
        "picks": {"count": picks.waiting_picks, "oldest_s": _age_s(picks.oldest())},
        "groups": {"count": picks.waiting_groups, "oldest_s": _age_s(oldest_group)},
    }


def _age_s(time: datetime | None) -> float | None:
    return None if time is None else (datetime.now(UTC) - time).total_seconds()


def status(lake: Lake, kafka: KafkaAccess, json: bool = False) -> str:
    """The state as text: a table for people, or JSON."""
    found = state(lake, kafka)
    if json:
        return as_json(found)
    lines = [f"{'topic':<24} partition     offset        end        lag"]
    lines += [
        f"{p['topic']:<24} {p['partition']:>9} {p['offset']:>10} {p['end']:>10} {p['lag']:>10}"
        for p in found["partitions"]
    ]
    for name, table in found["tables"].items():
        told = "version {version}, {rows} rows in {files} files".format_map(table) if table else "not made yet"
        lines.append(f"{lake.location(name)}: {told}")
    for kind, other in (("picks", "group"), ("groups", "pick")):
        waiting = found["waiting"] and found["waiting"][kind]
        if waiting and waiting["count"]:
            lines.append(f"{waiting['count']} {kind} without a {other}, the oldest for {waiting['oldest_s']:.0f} s")
    return "\n".join([*lines, f"{found['dead_letters']} dead letters in Kafka"])
