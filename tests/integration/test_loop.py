"""One short turn of the loop as `make loop` plays it, on a cluster of its own: every step is the real command.

The gates' limits are opened, since forty picks say nothing; that they stop a candidate is tested where they live.
"""

import json
from pathlib import Path

import pytest

from contract.release import read_manifest
from contract.repository import Repository
from deploy.local.layout import Layout
from deploy.loop.playing import Scale, play
from deploy.loop.records import FAILED, ROUNDS, lines_of
from tests.ports import free_offset

SCALE = Scale(turns=1, groups=40, original_groups=600, workers=2, poison=0, reward_steps=2, kills=0)
OPEN_OFFLINE = (
    "--least-groups", "1", "--least-merchants", "1",
    "--held-out", "12", "--drawn", "4",
    "--checked", "0", "--least-judge-gauc", "0", "--most-merchant-share", "1", "--reward-gauc", "1",
    "--reward-map", "1", "--favours", "100", "--prompt-accuracy", "1", "--diversity", "1", "--judge-score", "100",
    "--latency", "1000",
)  # fmt: skip
OPEN_TRAFFIC = ("--promote-at", "1", "--roll-back-at", "1e9", "--least-merchants", "2", "--most-broken", "1")


@pytest.mark.slow  # five minutes: it trains and exports twice
@pytest.mark.timeout(900)
def test_picks_become_a_release_that_is_promoted_and_taken_back_and_no_call_fails(tmp_path: Path) -> None:
    layout = Layout("turn", free_offset(), tmp_path / "repository")
    assert play(layout, tmp_path, SCALE, OPEN_OFFLINE, OPEN_TRAFFIC) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["failed_requests"] == 0 and not list(lines_of(tmp_path / FAILED))
    [gate] = report["gate"]
    assert gate["verdict"] == "promote" and gate["e_value"] >= 1 and gate["groups"] > 0
    first, second = report["releases"]
    assert first["table_version"] is None and second["release"] == gate["candidate"] == first["release"] + 1
    repository = Repository(layout.model_repository)
    assert repository.live() == second["release"]
    drawn_by = {release for line in lines_of(tmp_path / ROUNDS) for release in line["drawn_by"]}
    assert drawn_by == {first["release"], second["release"]}
    assert read_manifest(repository.release_dir(second["release"])).trained_on == {
        "table": str(tmp_path / "lake" / "groups"), "version": str(second["table_version"])
    }  # fmt: skip
    assert report["erased"] == {"merchants": 2, "rows_left": 0} and report["rollback_s"] > 0
    assert (tmp_path / "loop.png").stat().st_size > 10_000
