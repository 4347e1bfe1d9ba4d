"""What merchants may expect of the platform over 30 days, and the rules of Prometheus that watch it.

    python -m deploy.objectives     writes deploy/k8s/base/monitoring/objectives.yaml

`OBJECTIVES` is the table; change a number there for your GPUs and your promises, and write the file again. An objective
is a share of events that are good; what is left of it is the budget of errors. Alerts look at how fast the budget is
used up, over a long window and a short one (Google, The Site Reliability Workbook, chapter 5, table 5-8): the long one
says that it matters, the short one that it still goes on.
"""

import argparse
from dataclasses import dataclass

from contract.topics import FEEDBACK
from deploy.local.layout import ROOT

RULES = ROOT / "deploy" / "k8s" / "base" / "monitoring" / "objectives.yaml"
WINDOWS = ("5m", "30m", "1h", "6h", "3d")
EVENTS, BAD_EVENTS, BUDGET = (
    "perfusion:objective_events",
    "perfusion:objective_bad_events",
    "perfusion:objective_budget",
)
LEAST = 3  # bad events in the long window, below which nothing is said: one of two at night is no outage
_OURS = "INTERNAL|UNKNOWN|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|DATA_LOSS"  # faults that are no caller's


@dataclass(frozen=True)
class Objective:
    """A share of events that are good over 30 days.

    Expressions have WINDOW in the place of a window, and say how many events came in it, and how many were bad.
    """

    name: str
    promise: str
    target: float
    events: str
    bad: str

    @property
    def budget(self) -> str:
        """The share that may be bad, as a number of Prometheus."""
        return f"{1 - self.target:.6g}"


@dataclass(frozen=True)
class Burn:
    """An alert: the budget of 30 days is used up so many times as fast as it may be, in both windows."""

    alert: str
    factor: float
    long: str
    short: str
    severity: str


def _calls(name: str, promise: str, target: float, method: str) -> Objective:
    """Calls that do not end by a fault of ours; what callers do wrong is no event."""
    counted = f'perfusion_rpc_handled_total{{namespace="perfusion", method="{method}", code=~"%s"}}[WINDOW]'
    bad = f"sum(increase({counted % _OURS})) or vector(0)"
    return Objective(name, promise, target, f"sum(increase({counted % f'OK|{_OURS}'}))", bad)


def _within(name: str, promise: str, target: float, histogram: str, most_s: float, matcher: str = "") -> Objective:
    """Observations of a histogram that are not beyond one of its bounds."""
    labels = f'namespace="perfusion"{matcher}'
    events = f"sum(increase({histogram}_count{{{labels}}}[WINDOW]))"
    good = f'sum(increase({histogram}_bucket{{{labels}, le="{most_s:.1f}"}}[WINDOW]))'
    return Objective(name, promise, target, events, f"{events} - {good}")


_PAGES = 'sum(increase(perfusion_http_handled_total{namespace="perfusion"%s}[WINDOW]))'

OBJECTIVES = (
    _calls(
        "rounds-made",
        "a round that is asked for is made",
        0.995,
        "/perfusion.v1.GenerationService/Generate",
    ),
    _within("rounds-in-time", "a round takes at most 10 s", 0.95, "perfusion_group_seconds", 10),
    _calls(
        "picks-acknowledged",
        "a pick is acknowledged",
        0.999,
        "/perfusion.v1.FeedbackService/SubmitFeedback",
    ),
    _within(
        "favours-follow",
        "favours follow a pick within 5 s",
        0.99,
        "perfusion_history_delay_seconds",
        5,
        f', topic="{FEEDBACK}"',
    ),
    _calls("orders-placed", "an order is placed", 0.999, "/perfusion.v1.ItemsService/PlaceOrder"),
    Objective(
        "pages-answered",
        "a request of a browser is not answered by an error of ours",
        0.995,
        _PAGES % "",
        _PAGES % ', status=~"5.."' + " or vector(0)",
    ),
    _within("pages-in-time", "a browser has its answer within 1 s", 0.99, "perfusion_http_latency_seconds", 1),
)
BURNS = (
    Burn("BudgetBurnsFast", 14.4, "1h", "5m", "critical"),
    Burn("BudgetBurns", 6, "6h", "30m", "critical"),
    Burn("BudgetBurnsSlowly", 1, "3d", "6h", "warning"),
)
_HEAD = """\
# Written by `python -m deploy.objectives` from its table: change it there. docs/runbook.md has each alert.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: objectives
spec:
  groups:
"""


def rules() -> str:
    """The file: what is recorded of each objective in each window, and the alerts."""
    recorded = [_record(BUDGET, each.name, f"vector({each.budget})") for each in OBJECTIVES]
    for window in WINDOWS:
        for each in OBJECTIVES:
            recorded.append(_record(f"{EVENTS}:increase{window}", each.name, each.events.replace("WINDOW", window)))
            recorded.append(_record(f"{BAD_EVENTS}:increase{window}", each.name, each.bad.replace("WINDOW", window)))
    groups = _group("perfusion-objectives", recorded), _group("perfusion-budgets", [_alert(each) for each in BURNS])
    return _HEAD + "".join(groups)


def _group(name: str, rules: list[str]) -> str:
    return f"    - name: {name}\n      rules:\n" + "".join(rules)


def _record(name: str, objective: str, expression: str) -> str:
    return f"""\
        - record: {name}
          expr: {expression}
          labels: {{objective: {objective}}}
"""


def _alert(burn: Burn) -> str:
    def beyond(window: str) -> str:
        events, bad = f"{EVENTS}:increase{window}", f"{BAD_EVENTS}:increase{window}"
        return f"{bad} / {events} > on (objective) {burn.factor:g} * {BUDGET}"

    return f"""\
        - alert: {burn.alert}
          expr: |
            ({beyond(burn.long)})
              and on (objective) ({beyond(burn.short)})
              and on (objective) {BAD_EVENTS}:increase{burn.long} >= {LEAST}
          labels: {{severity: {burn.severity}}}
          annotations:
            summary: "{{{{ $labels.objective }}}}: {{{{ $value | humanizePercentage }}}} of {burn.long} were bad, over \
{burn.factor:g} times what 30 days allow."
            runbook: docs/runbook.md#{burn.alert.lower()}
"""


def main() -> None:
    shown = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(prog="python -m deploy.objectives", description=__doc__, formatter_class=shown).parse_args()
    RULES.write_text(rules())
    print(f"written: {RULES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
