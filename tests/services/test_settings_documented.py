"""Every setting of every service stands in docs/serving.md, under the name it has in the environment."""

from importlib import import_module
from pathlib import Path

import pytest

from deploy.local import parts
from services.runtime.settings import ProcessSettings, RuntimeSettings

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
SERVICES: dict[str, type[ProcessSettings]] = {
    name: import_module(f"services.{name}.settings").Settings for name in (*parts.SERVICES, parts.STUDIO.name)
}


@pytest.mark.parametrize("service", SERVICES)
def test_each_setting_is_documented_with_its_default(service: str) -> None:
    for name, field in SERVICES[service].model_fields.items():
        begin = f"| `PERFUSION_{name.upper()}` | {field.description} | "
        rows = [line.removeprefix(begin).rstrip(" |") for line in PAGE.splitlines() if line.startswith(begin)]
        assert rows, begin
        defaults, services = next(row for each in rows if applies(row := each.split(" | "), service))
        said = dict(each.split(" ", 1) for each in defaults.split(", ")) if " " in defaults else {service: defaults}
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert said[service] == default, f"{name}: {services}"


def applies(row: list[str], service: str) -> bool:
    """`gRPC` are the services that are called so."""
    if row[1] == "gRPC":
        return issubclass(SERVICES[service], RuntimeSettings)
    return row[1] == "all" or service in row[1].split(", ")


def test_all_is_said_of_what_all_have() -> None:
    for name in RuntimeSettings.model_fields:
        rows = [line for line in PAGE.splitlines() if line.startswith(f"| `PERFUSION_{name.upper()}` |")]
        services = {row.rstrip(" |").rpartition(" | ")[2] for row in rows}
        shared = {"all"} if name in ProcessSettings.model_fields else {"gRPC"}
        assert services - {"studio"} == shared, name  # whose port has a row of its own


def test_no_setting_is_documented_that_is_not_there() -> None:
    there = {f"| `PERFUSION_{name.upper()}` |" for kind in SERVICES.values() for name in kind.model_fields}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `PERFUSION_")]
    assert [row for row in rows if not row.startswith(tuple(there))] == []
