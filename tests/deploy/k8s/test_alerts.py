"""Prometheus reads every rule, and each alert fires when it shall and not before: alerts.yaml, by promtool."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.k8s.manifests import OVERLAYS, Object, Objects, build
from tests.deploy.k8s.policies.monitoring import METRIC, alerts, measured
from tests.deploy.k8s.promtool import promtool, write_rules

TESTS = Path(__file__).parent / "alerts.yaml"
WHOLE: Any = yaml.load(TESTS.read_text(), yaml.BaseLoader)  # text only: 0x30 is thirty zeros, no number
GROUPS: list[Any] = WHOLE["tests"]


def groups_of(objects: Objects) -> list[Any]:
    return [group for each in objects.of("PrometheusRule") for group in each["spec"]["groups"]]


def looks(alert: str) -> list[list[Any]]:
    """Of each test about an alert: what it expects, by its time."""
    found = [[each for each in group["alert_rule_test"] if each["alertname"] == alert] for group in GROUPS]
    return [sorted(each, key=lambda look: minutes(look["eval_time"])) for each in found if each]


def minutes(text: str) -> int:
    return int(text.removesuffix("m"))


def fires(look: Any) -> bool:
    return bool(look.get("exp_alerts"))


def lacking(rule: Object, metrics: set[str]) -> list[str]:
    """What the unit tests of an alert do not try; it comes from these metrics."""
    name, tests = rule["alert"], looks(rule["alert"])
    without: list[str] = []
    if not any(fires(look) for test in tests for look in test):
        without.append(f"{name}: nothing fires it")
    if "for" in rule and not any(not fires(first) and fires(last) for first, *_, last in (t for t in tests if t[1:])):
        without.append(f"{name}: its `for` is not tried")
    close = [
        group
        for group in GROUPS
        for named in [[each for each in group["alert_rule_test"] if each["alertname"] == name]]
        if named and not any(map(fires, named)) and {s["series"].split("{")[0] for s in group["input_series"]} & metrics
    ]
    if not close:
        without.append(f"{name}: nothing comes close")
    return without


def test_every_alert_is_tried(whole: Objects) -> None:
    assert [problem for rule in alerts(whole) for problem in lacking(rule, measured(whole, rule["expr"]))] == []


def test_no_alert_is_tried_that_is_not_there(whole: Objects) -> None:
    tried = {each["alertname"] for group in GROUPS for each in group["alert_rule_test"]}
    assert tried == {rule["alert"] for rule in alerts(whole)}
    assert [
        group["name"] for group in GROUPS if len({each["alertname"] for each in group["alert_rule_test"]}) != 1
    ] == []


def test_an_alert_that_is_not_tried_is_noticed() -> None:
    new = {"alert": "NewAlert", "expr": 'up{namespace="perfusion"} == 0', "for": "5m"}
    assert lacking(new, {"up"}) == [
        "NewAlert: nothing fires it",
        "NewAlert: its `for` is not tried",
        "NewAlert: nothing comes close",
    ]


@pytest.mark.parametrize("overlay", [each for each in OVERLAYS if build(each).of("PrometheusRule")])
def test_prometheus_reads_the_rules(overlay: str, tmp_path: Path) -> None:
    content, said = promtool(
        "check", "rules", "--lint=all", "--lint-fatal", write_rules(tmp_path / "rules.yaml", groups_of(build(overlay)))
    )
    assert content, said


def recorded_for(asked: str, rule: Object) -> bool:
    return any(name == rule.get("record") for name, _ in METRIC.findall(asked))


def tried(groups: list[Any], folder: Path) -> tuple[bool, str]:
    """Each alert by its own tests and without the others: promtool evaluates every rule that it is given in every test.

    Rules that record are left beside those that ask for what they record.
    """
    files = []
    for alert in sorted({each["alertname"] for group in GROUPS for each in group["alert_rule_test"]}):
        asked = " ".join(rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert)
        kept = [
            {
                **group,
                "rules": [rule for rule in group["rules"] if rule.get("alert") == alert or recorded_for(asked, rule)],
            }
            for group in groups
        ]
        rules = write_rules(folder / f"{alert}-rules.yaml", [group for group in kept if group["rules"]])
        tests = [group for group in GROUPS if group["alert_rule_test"][0]["alertname"] == alert]
        files.append(folder / f"{alert}.yaml")
        files[-1].write_text(yaml.safe_dump({**WHOLE, "rule_files": [rules.name], "tests": tests}))
    return promtool("test", "rules", *files)


def test_alerts_fire_when_they_shall_and_not_before(whole: Objects, tmp_path: Path) -> None:
    content, said = tried(groups_of(whole), tmp_path)
    assert content, said


def changed(objects: Objects, folder: Path, **fields: str | None) -> str:
    """What promtool says where every alert is made wrong in the same way; a field that is None is dropped."""
    groups = deepcopy(groups_of(objects))
    for group in groups:
        group["rules"] = [
            {key: value for key, value in {**rule, **fields}.items() if value is not None} if "alert" in rule else rule
            for rule in group["rules"]
        ]
    content, said = tried(groups, folder)
    assert not content
    return said


def test_an_alert_that_does_not_wait_is_noticed(whole: Objects, tmp_path: Path) -> None:
    said = changed(whole, tmp_path, **{"for": None})
    waiting = {rule["alert"] for rule in alerts(whole) if "for" in rule}
    assert {name for name in waiting if f"alertname: {name}," not in said} == set()


def test_an_alert_that_always_fires_is_noticed(whole: Objects, tmp_path: Path) -> None:
    said = changed(whole, tmp_path, **{"for": None, "expr": "vector(1)"})
    close = {group["name"] for group in GROUPS if not any(map(fires, group["alert_rule_test"]))}
    assert {name for name in close if f"name: {name}," not in said} == set()
