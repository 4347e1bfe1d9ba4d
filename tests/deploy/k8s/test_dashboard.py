"""Prometheus reads every expression of the dashboard. That its metrics and labels are there is a policy's matter."""

from pathlib import Path
from typing import Any

from tests.deploy.k8s.manifests import Objects
from tests.deploy.k8s.policies.monitoring import dashboards, targets
from tests.deploy.k8s.promtool import promtool, write_rules

INTERVAL = "$__rate_interval"  # Grafana fills it in


def recorded(asked: list[str]) -> list[Any]:
    """As rules, which promtool reads."""
    rules = [{"record": f"panel:{n}", "expr": each.replace(INTERVAL, "5m")} for n, each in enumerate(asked)]
    return [{"name": "dashboard", "rules": rules}]


def test_there_is_a_dashboard(whole: Objects) -> None:
    [dashboard] = dashboards(whole)
    assert dashboard["uid"] == "perfusion" and len(targets(whole)) > 20


def test_prometheus_reads_every_expression(whole: Objects, tmp_path: Path) -> None:
    asked = [target["expr"] for _, target in targets(whole)]
    assert not [each for each in asked if "$" in each.replace(INTERVAL, "")]
    content, said = promtool("check", "rules", write_rules(tmp_path / "rules.yaml", recorded(asked)))
    assert content, said


def test_a_wrong_expression_is_noticed(tmp_path: Path) -> None:
    wrong = recorded([f"sum by (method) (rate(perfusion_rpc_handled_total[{INTERVAL}])"])
    content, said = promtool("check", "rules", write_rules(tmp_path / "rules.yaml", wrong))
    assert not content and "unclosed" in said
