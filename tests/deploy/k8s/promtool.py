"""Prometheus' own reader of rules, where it is. Knows its command line; no alert."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.k8s.manifests import ROOT

UNPACKED = ROOT / "build" / "prometheus" / "usr" / "bin" / "promtool"
MISSING = "promtool is missing, so no expression was read or tried; remedy: apt-get install prometheus"


def promtool(*arguments: str | Path) -> tuple[bool, str]:
    """Whether it is content, and what it says."""
    program = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else None)
    if program is None:
        pytest.skip(MISSING)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def write_rules(path: Path, groups: list[Any]) -> Path:
    """As Prometheus reads them: what a PrometheusRule has as its spec."""
    path.write_text(yaml.safe_dump({"groups": groups}))
    return path
