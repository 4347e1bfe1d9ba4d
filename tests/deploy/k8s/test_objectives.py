"""The rules of the objectives are those of the table in deploy/objectives.py, and so is the page."""

import re

from deploy.objectives import BURNS, OBJECTIVES, RULES, WINDOWS, rules
from tests.deploy.k8s.manifests import ROOT, Objects
from tests.deploy.k8s.policies.monitoring import recorded


def test_the_file_is_the_tables() -> None:
    assert RULES.read_text() == rules(), "run `python -m deploy.objectives`"


def test_every_window_of_every_objective_is_recorded(whole: Objects) -> None:
    windows = {name.partition(":increase")[2] for name in recorded(whole) if ":increase" in name}
    assert windows == set(WINDOWS) and {window for each in BURNS for window in (each.long, each.short)} == windows
    assert len({each.name for each in OBJECTIVES}) == len(OBJECTIVES)
    assert all(0.5 < each.target < 1 for each in OBJECTIVES)


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| ([\d.]+) % \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(each.name, f"{100 * each.target:g}", each.promise) for each in OBJECTIVES]


def test_the_runbook_says_where_to_look_for_each() -> None:
    _, _, section = (ROOT / "docs" / "runbook.md").read_text().partition("### BudgetBurnsFast")
    table = re.findall(r"^\| (`.*`) \| ", section.partition("###")[0], re.MULTILINE)
    assert [name for row in table for name in re.findall(r"`([a-z-]+)`", row)] == [each.name for each in OBJECTIVES]
