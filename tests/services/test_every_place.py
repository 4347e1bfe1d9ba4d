"""A service that one place does not know is named: places that list all services agree with the folders."""

import re
import tomllib
from pathlib import Path

import pytest

from deploy.local.layout import PORTS
from deploy.local.parts import SERVICES
from services import migrations

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent.name for path in (ROOT / "services").glob("*/servicer.py"))


def layers() -> str:
    """The floors of services/ in the rules of imports."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return next(" ".join(rule["layers"]) for rule in rules if rule.get("containers") == ["services"])


def rows(page: str) -> str:
    """The lines of a page's tables."""
    return "\n".join(line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("|"))


def test_there_are_services() -> None:
    assert "generation" in FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_a_service_is_known_everywhere(name: str) -> None:
    assert name in SERVICES, "deploy/local/parts.py"
    assert name in PORTS, "deploy/local/layout.py"
    assert name in re.split(r"\W+", layers()), "pyproject.toml, tool.importlinter"
    assert f"(services/{name})" in rows("README.md"), "README's table of services"
    assert f"{name} 5" in rows("docs/serving.md"), "docs/serving.md, PERFUSION_PORT"
    assert (ROOT / "deploy" / "k8s" / "base" / name.replace("_", "-")).is_dir(), "deploy/k8s/base"
    assert (ROOT / "protos" / "perfusion" / "v1" / f"{name}_service.proto").is_file()


def test_every_schema_can_be_migrated_by_the_command() -> None:
    assert set(migrations.SERVICES) == {path.parent.name for path in (ROOT / "services").glob("*/migrations")}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_service_has_the_files_that_every_service_has(name: str) -> None:
    expected = {"__main__.py", "settings.py", "servicer.py", "requests.py", "messages.py", "ports.py", "adapters"}
    assert expected <= {path.name for path in (ROOT / "services" / name).iterdir()}
