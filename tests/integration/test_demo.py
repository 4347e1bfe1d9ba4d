"""The demonstration against the real cluster: the summary has its keys, and the pictures show what they must."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.demo.case_study import GROUPS
from deploy.demo.playing import GROUP_SIZE
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT


@pytest.fixture(scope="module")
def output(cluster: Cluster) -> Path:
    cluster.up()  # whatever a test before this one broke
    folder = cluster.layout.home / "demo"
    where = ["--name", cluster.layout.name, "--port-offset", str(cluster.layout.port_offset), "--output", str(folder)]
    repository = ["--model-repository", str(cluster.layout.model_repository)]
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "protos/gen", "protos/client"))
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-m", "deploy.demo", *where, *repository]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def summary(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return content


@pytest.fixture(scope="module")
def details(summary: dict[str, Any], output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "details.json").read_text())
    return content


def test_the_summary_has_exactly_the_published_keys(summary: dict[str, Any]) -> None:
    assert set(summary) == {
        "release",
        "prompt",
        "stores",
        "feedback_events_read_back",
        "timings_s",
        "denoise_vs_bare_onnx",
    }
    assert set(summary["timings_s"]) == {"setup", "export", "start", "first_group", "warm_group"}
    for store in summary["stores"]:
        assert set(store) == {
            "user_id",
            "group_id",
            "images",
            "scores",
            "prompt_accuracy",
            "true_utility",
            "true_utility_as_other_store",
            "true_utility_without_personalisation",
            "latency_s",
        }


def width_px(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


def test_pictures_and_sheet_are_written(summary: dict[str, Any], output: Path) -> None:
    for store in summary["stores"]:
        assert len(store["images"]) == len(store["scores"]) == GROUP_SIZE
        for path in store["images"]:
            assert width_px(ROOT / path) > 0
    assert width_px(output / "contact_sheet.png") > GROUP_SIZE * 64


def test_every_pick_is_read_back(summary: dict[str, Any]) -> None:
    assert summary["feedback_events_read_back"] == len(summary["stores"]) * GROUPS


def test_every_group_shows_what_the_prompt_asks_for(details: dict[str, Any]) -> None:
    accuracies = [group["prompt_accuracy"] for groups in details.values() for group in groups]
    assert min(accuracies) >= 0.90


def test_each_store_s_pictures_are_for_that_store(summary: dict[str, Any]) -> None:
    for store in summary["stores"]:
        assert store["true_utility"] > store["true_utility_as_other_store"] + 2.0
        assert store["true_utility"] > store["true_utility_without_personalisation"] + 2.0


def test_bell_sleeves_and_sequins_are_where_they_are_liked(details: dict[str, Any]) -> None:
    minimalist, luxury = (
        [garment for group in details[name] if group["personalised"] for garment in group["read"]]
        for name in ("minimalist-store", "luxury-store")
    )
    assert share(minimalist, "sleeve_style", "bell") > share(luxury, "sleeve_style", "bell") + 0.3
    assert share(luxury, "trim", "sequins") > share(minimalist, "trim", "sequins") + 0.5


def test_personalised_groups_say_what_was_wished(details: dict[str, Any]) -> None:
    for group in (group for groups in details.values() for group in groups):
        assert len(group["wishes"]) == GROUP_SIZE
        assert all(map(bool, group["wishes"])) if group["personalised"] else not any(group["wishes"])


def share(garments: list[dict[str, str]], kind: str, value: str) -> float:
    return sum(garment.get(kind) == value for garment in garments) / len(garments)
