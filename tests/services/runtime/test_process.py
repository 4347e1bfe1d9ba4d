"""A service's process: where its spans go, from its settings to its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
from contract import tracing
from services.runtime import process
from services.runtime.settings import RuntimeSettings

async def serve(settings):
    with tracing.entry("a call") as span:
        print(span.is_recording())

process.run("ranking", RuntimeSettings, serve)
"""


def ran(**settings: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {f"PERFUSION_{name.upper()}": value for name, value in settings.items()},
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return found.stdout.strip()


def test_a_service_records_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    assert ran() == "False"
    assert ran(traces_to=f"file://{tmp_path}", traces_share="1") == "True"
    [line] = (tmp_path / "ranking.jsonl").read_text().splitlines()
    of_process = json.loads(line)["resourceSpans"][0]
    assert of_process["resource"]["attributes"][0]["value"] == {"stringValue": "ranking"}
    assert [span["name"] for span in of_process["scopeSpans"][0]["spans"]] == ["a call"]
