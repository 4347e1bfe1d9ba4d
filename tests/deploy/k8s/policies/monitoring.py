"""What asks Prometheus: alerts, the dashboard, triggers of scaling. What they name is there.

Each policy yields problems, none when it is kept. Whether Prometheus reads an expression is promtool's matter
(test_alerts.py, test_dashboard.py).
"""

import json
import re
from collections.abc import Iterator

import grpc
from perfusion.v1 import feedback_service_pb2, generation_service_pb2, items_service_pb2
from prometheus_client import CollectorRegistry

from services.feedback.metrics import FeedbackMetrics
from services.generation.metrics import GenerationMetrics
from services.items.metrics import ItemsMetrics
from services.runtime.metrics import CertificateMetrics, HealthMetrics, KafkaCertificateMetrics, RpcMetrics
from services.runtime.relay import RelayMetrics
from services.studio.metrics import StudioMetrics
from services.user_embedding.metrics import HistoryMetrics, ProfileMetrics
from tests.deploy.k8s.manifests import ROOT, Object, Objects

APIS = (generation_service_pb2, feedback_service_pb2, items_service_pb2)
RUNBOOK = ROOT / "docs" / "runbook.md"
KINDS = (
    RpcMetrics,
    CertificateMetrics,
    KafkaCertificateMetrics,
    HealthMetrics,
    RelayMetrics,
    GenerationMetrics,
    FeedbackMetrics,
    ItemsMetrics,
    HistoryMetrics,
    ProfileMetrics,
    StudioMetrics,
)
TRITON = {  # metric → its labels; tests/deploy/test_triton_backend.py asks a Triton for them
    "nv_inference_queue_duration_us": {"model", "version"},
    "nv_inference_request_success": {"model", "version"},
    "nv_inference_pending_request_count": {"model", "version"},
}
FOREIGN = TRITON | {  # as their exporters document them
    "up": set(),  # Prometheus
    "kube_deployment_spec_replicas": {"deployment"},  # kube-state-metrics
    "kube_deployment_status_replicas_available": {"deployment"},
    "kube_deployment_status_condition": {"deployment", "condition", "status"},
    "kube_pod_container_status_restarts_total": {"container", "uid"},
    "kube_pod_init_container_status_restarts_total": {"container", "uid"},
    "kube_job_failed": {"job_name", "condition"},
    "kube_job_created": {"job_name"},
    "kube_cronjob_status_last_successful_time": {"cronjob"},
    "kubelet_volume_stats_available_bytes": {"persistentvolumeclaim"},  # kubelet
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim"},
    "DCGM_FI_DEV_XID_ERRORS": {"gpu", "Hostname"},  # dcgm-exporter
    "strimzi_certificate_expiration_timestamp_ms": {"cluster", "type", "resource_namespace"},  # Strimzi's operator
}
SCRAPED = {"namespace", "pod", "job", "service"}  # Prometheus adds these
WHOLE_CLUSTER = {  # of whoever has them
    "DCGM_FI_DEV_XID_ERRORS",
    "strimzi_certificate_expiration_timestamp_ms",  # it says the Kafka's namespace by a label of its own
}
METRIC = re.compile(r"\b(up(?=\{)|perfusion:[\w:]+|(?:perfusion|nv|kube|kubelet|DCGM|strimzi)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\) ?\(")
JOINED = re.compile(r"\b(?:on|group_left) \(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SEVERITIES = {"critical", "warning"}


def metrics_of_the_code() -> dict[str, set[str]]:
    """Each name that our metrics ports show → its labels."""
    registry = CollectorRegistry()
    for kind in KINDS:
        kind(registry)
    names: dict[str, set[str]] = {}
    for name, of in registry._names_to_collectors.items():
        names[name] = {*of._labelnames, *(("le",) if name.endswith("_bucket") else ())}  # type: ignore[attr-defined]
    return names


def rules(objects: Objects) -> list[Object]:
    """What Prometheus evaluates: alerts, and what it records for them."""
    return [
        rule for each in objects.of("PrometheusRule") for group in each["spec"]["groups"] for rule in group["rules"]
    ]


def alerts(objects: Objects) -> list[Object]:
    return [rule for rule in rules(objects) if "alert" in rule]


def recorded(objects: Objects) -> dict[str, set[str]]:
    """Each metric that rules record → the labels that they give it."""
    names: dict[str, set[str]] = {}
    for rule in rules(objects):
        if "record" in rule:
            names.setdefault(rule["record"], set()).update(rule.get("labels", {}))
    return names


def measured(objects: Objects, expression: str) -> set[str]:
    """The metrics that an expression comes from: of a recorded one, those that it is recorded from."""
    of = [
        rule["expr"]
        for rule in rules(objects)
        if rule.get("record") in {name for name, _ in METRIC.findall(expression)}
    ]
    names = {name for name, _ in METRIC.findall(expression)} - recorded(objects).keys()
    return names.union(*(measured(objects, each) for each in of))


def dashboards(objects: Objects) -> list[Object]:
    """What a Grafana's sidecar finds by its label."""
    found = [each for each in objects.of("ConfigMap") if each["metadata"].get("labels", {}).get("grafana_dashboard")]
    return [json.loads(text) for each in found for text in each["data"].values()]


def targets(objects: Objects) -> list[tuple[str, Object]]:
    """Of dashboards: the panel's title, and what it asks."""
    return [
        (panel["title"], target)
        for dashboard in dashboards(objects)
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def expressions(objects: Objects) -> Iterator[tuple[str, str]]:
    """Everything that asks Prometheus, by who asks."""
    yield from ((rule.get("alert") or rule["record"], rule["expr"]) for rule in rules(objects))
    yield from ((f"panel {title}", target["expr"]) for title, target in targets(objects))
    for each in objects.of("ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            yield f"ScaledObject {each['metadata']['name']}", trigger["metadata"]["query"]


def metrics_exist(objects: Objects) -> Iterator[str]:
    known = metrics_of_the_code() | FOREIGN | recorded(objects)
    for who, expression in expressions(objects):
        asked = METRIC.findall(expression)
        if not asked and who not in recorded(objects):  # a number may be recorded
            yield f"{who} asks for no metric"
        for name, matchers in asked:
            if name not in known:
                yield f"{who}: nobody shows {name}"
            elif strange := {label for label, *_ in MATCHER.findall(matchers)} - known[name] - SCRAPED:
                yield f"{who}: {name} has no label {', '.join(sorted(strange))}"
        yield from (f"{who}: {problem}" for problem in strange_groups(expression, known))


def strange_groups(expression: str, known: dict[str, set[str]]) -> Iterator[str]:
    """Labels by which something is grouped or joined, and that it has not."""
    there = [name for name, _ in METRIC.findall(expression) if name in known]
    for names in JOINED.findall(expression):
        if strange := names_in(names) - SCRAPED.union(*(known[name] for name in there)):
            yield f"nothing has the label {', '.join(sorted(strange))}"
    for found in GROUPED.finditer(expression):
        for name, _ in METRIC.findall(bracketed(expression, found.end() - 1)):
            if strange := names_in(found[1]) - known.get(name, set()) - SCRAPED:
                yield f"{name} has no label {', '.join(sorted(strange))}"


def names_in(text: str) -> set[str]:
    return {each.strip() for each in text.split(",") if each.strip()}


def bracketed(text: str, opens: int) -> str:
    """From an opening bracket to the one that closes it."""
    depth = 0
    for place in range(opens, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return text[opens : place + 1]
    return text[opens:]


def what_is_named_is_there(objects: Objects) -> Iterator[str]:
    """The values of labels: methods, codes, the cluster's objects. Nothing of another namespace is asked for."""
    services = [of for each in APIS for of in each.DESCRIPTOR.services_by_name.values()]
    there = {
        "method": {f"/{of.full_name}/{method.name}" for of in services for method in of.methods},
        "code": {code.name for code in grpc.StatusCode},
        "namespace": {each["metadata"]["name"] for each in objects.of("Namespace")},
        "deployment": {each["metadata"]["name"] for each in objects.of("Deployment")},
        "cronjob": {each["metadata"]["name"] for each in objects.of("CronJob")},
    }
    jobs = {each["metadata"]["name"] for each in objects.of("Job", "CronJob")}
    for who, expression in expressions(objects):
        for name, matchers in METRIC.findall(expression):
            asked = {label: value for label, _, value in MATCHER.findall(matchers)}
            if "namespace" not in asked and name not in WHOLE_CLUSTER | recorded(objects).keys():
                yield f"{who} asks for {name} of every namespace"
            for label, value in asked.items():
                for each in value.split("|") if label in there else ():
                    if each not in there[label]:
                        yield f"{who}: there is no {label} {each}"
            if not any(f"{job}-".startswith(asked.get("job_name", "").removesuffix(".*")) for job in jobs):
                yield f"{who}: there is no job {asked['job_name']}"


def alerts_are_explained(objects: Objects) -> Iterator[str]:
    sections = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    for rule in alerts(objects):
        name, told = rule["alert"], rule["annotations"]
        if rule["labels"].get("severity") not in SEVERITIES:
            yield f"{name} has no severity"
        if "summary" not in told:
            yield f"{name} says nothing"
        if told.get("runbook") != f"docs/runbook.md#{name.lower()}":
            yield f"{name} names another section than its own"
        if name not in sections:
            yield f"{name} has no section in {RUNBOOK.name}"


def panels_are_whole(objects: Objects) -> Iterator[str]:
    for dashboard in dashboards(objects):
        panels = dashboard["panels"]
        if len({each["id"] for each in panels}) < len(panels):
            yield "two panels have one id"
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            columns = range(place["x"], place["x"] + place["w"])
            cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
            if cells & taken or columns.stop > 24:
                yield f"panel {panel['title']} has no place of its own"
            taken |= cells
            if panel["type"] != "row" and panel["datasource"]["uid"] != "${datasource}":
                yield f"panel {panel['title']} asks one Grafana's data source alone"
    for title, target in targets(objects):
        grouped = names_in(",".join(GROUPED.findall(target["expr"])))
        grouped |= {label for name, _ in METRIC.findall(target["expr"]) for label in recorded(objects).get(name, ())}
        if unknown := set(LEGEND.findall(target["legendFormat"])) - grouped:
            yield f"panel {title}: its legend names {', '.join(sorted(unknown))}"


POLICIES = (metrics_exist, what_is_named_is_there, alerts_are_explained, panels_are_whole)
