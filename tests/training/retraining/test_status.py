"""The state of a lake against a real Kafka, for people and for machines."""

import json
from pathlib import Path

from deploy.local.kafka_broker import COLLECTOR, access
from deploy.local.layout import Layout
from training.retraining.following import Limits, follow
from training.retraining.lake import Lake
from training.retraining.status import state, status


def test_lag_falls_to_nothing_and_nothing_is_made_by_looking(kafka: Layout, tmp_path: Path) -> None:
    lake, collector = Lake(str(tmp_path / "lake")), access(kafka, COLLECTOR)
    before = state(lake, collector)
    assert before["tables"] == dict.fromkeys(("events", "groups", "shop", "erasures")) and before["waiting"] is None
    assert not (tmp_path / "lake").exists() and "not made yet" in status(lake, collector)
    follow(lake, collector, Limits(once=True), say=lambda _: None)
    after = json.loads(status(lake, collector, json=True))
    assert {(p["topic"], p["partition"]) for p in after["partitions"]} == {
        (topic, n) for topic in ("perfusion.groups.v1", "perfusion.feedback.v1", "perfusion.shop.v1") for n in range(3)
    }
    assert all(p["lag"] == 0 and p["offset"] == p["end"] for p in after["partitions"])
    assert after["waiting"]["picks"]["count"] >= 0 and "lag" in status(lake, collector)
