"""A command records its spans where the services' variables say, and refuses what they would refuse."""

import json
from pathlib import Path

import pytest

from contract import tracing
from contract.errors import InputError
from training.common.traces import recorded


def test_spans_of_a_command_go_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_TRACES_TO", f"file://{tmp_path}")
    monkeypatch.setenv("PERFUSION_TRACES_SHARE", "1")
    with recorded("collect"), tracing.entry("batch"):
        pass
    [line] = (tmp_path / "collect.jsonl").read_text().splitlines()
    [span] = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["name"] == "batch"
    with tracing.entry("batch") as after:
        assert not after.is_recording()


def test_without_it_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERFUSION_TRACES_TO", raising=False)
    with recorded("collect"), tracing.entry("batch") as span:
        assert not span.is_recording()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PERFUSION_TRACES_TO", "http://collector.example.com:4317"),
        ("PERFUSION_TRACES_TO", "build/traces"),
        ("PERFUSION_TRACES_TO", "file://"),
        ("PERFUSION_TRACES_SHARE", "0"),
        ("PERFUSION_TRACES_SHARE", "1.5"),
        ("PERFUSION_TRACES_SHARE", "many"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_TRACES_TO", f"file://{tmp_path}")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=name), recorded("collect"):
        pass
