"""What operators read: Kafka's topics, the metrics in alerts and triggers, the bounds of scaling.

Each policy yields problems, none when it is kept.
"""

import re
from collections.abc import Iterator
from typing import Any

from perfusion.v1 import generation_service_pb2
from prometheus_client import CollectorRegistry

from contract.topics import TOPICS
from services.feedback.metrics import FeedbackMetrics
from services.generation.metrics import GenerationMetrics
from services.runtime.metrics import HealthMetrics, RpcMetrics
from services.runtime.relay import RelayMetrics
from services.user_embedding.metrics import HistoryMetrics, ProfileMetrics
from tests.deploy.k8s.manifests import Object, Objects

KINDS = (RpcMetrics, HealthMetrics, RelayMetrics, GenerationMetrics, FeedbackMetrics, HistoryMetrics, ProfileMetrics)
FOREIGN = {  # metric → its labels, as its exporter documents it
    "nv_inference_queue_duration_us": {"model", "version", "gpu_uuid"},  # Triton
    "nv_inference_request_success": {"model", "version", "gpu_uuid"},
    "kube_deployment_status_replicas_available": {"deployment"},  # kube-state-metrics
    "kube_job_status_failed": {"job_name"},
    "DCGM_FI_DEV_XID_ERRORS": {"gpu", "Hostname"},  # dcgm-exporter
}
SCRAPED = {"namespace", "pod", "job", "service"}  # Prometheus adds these
METRIC = re.compile(r"\b((?:perfusion|nv|kube|DCGM)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*=~?\s*"([^"]*)"')
GROUPED = re.compile(r"by \(([^)]*)\)")
REPLICAS, IN_SYNC = 3, 2


def metrics_of_the_code() -> dict[str, set[str]]:
    """Each name that our metrics ports show → its labels."""
    registry = CollectorRegistry()
    for kind in KINDS:
        kind(registry)
    return {name: set(of._labelnames) for name, of in registry._names_to_collectors.items()}  # type: ignore[attr-defined]


def expressions(objects: Objects) -> Iterator[tuple[str, str]]:
    """Everything that asks Prometheus, by who asks."""
    for each in objects.of("PrometheusRule"):
        for rule in (rule for group in each["spec"]["groups"] for rule in group["rules"]):
            yield rule["alert"], rule["expr"]
    for each in objects.of("ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            yield f"ScaledObject {each['metadata']['name']}", trigger["metadata"]["query"]


def metrics_exist(objects: Objects) -> Iterator[str]:
    known = metrics_of_the_code() | FOREIGN
    for who, expression in expressions(objects):
        asked = METRIC.findall(expression)
        if not asked:
            yield f"{who} asks for no metric"
        for name, matchers in asked:
            if name not in known:
                yield f"{who}: nobody shows {name}"
                continue
            labels = {label for label, _ in MATCHER.findall(matchers)}
            grouped = {label.strip() for names in GROUPED.findall(expression) for label in names.split(",")}
            if strange := (labels | grouped) - known[name] - SCRAPED:
                yield f"{who}: {name} has no label {', '.join(sorted(strange))}"


def methods_exist(objects: Objects) -> Iterator[str]:
    services = generation_service_pb2.DESCRIPTOR.services_by_name
    there = {f"/{of.full_name}/{method.name}" for of in services.values() for method in of.methods}
    for who, expression in expressions(objects):
        for label, value in MATCHER.findall(expression):
            if label == "method" and value not in there:
                yield f"{who}: there is no method {value}"


def topics_are_the_contracts(objects: Objects) -> Iterator[str]:
    topics = {each["metadata"]["name"]: each["spec"] for each in objects.of("KafkaTopic")}
    if set(topics) != set(TOPICS):
        yield f"the topics are {sorted(topics)}, the contract's {sorted(TOPICS)}"
    for name in set(topics) & set(TOPICS):
        has = {key: str(value) for key, value in topics[name]["config"].items()}
        for key, value in TOPICS[name].items():
            if has.get(key) != value:
                yield f"{name}: {key} is {has.get(key)}, the contract's {value}"
    cluster = {each["metadata"]["name"] for each in objects.of("Kafka")}
    for each in objects.of("KafkaTopic", "KafkaNodePool"):
        if each["metadata"]["labels"].get("strimzi.io/cluster") not in cluster:
            yield f"{each['kind']} {each['metadata']['name']} belongs to no cluster"


def acknowledged_is_durable(objects: Objects) -> Iterator[str]:
    """OK to a client stands on it (docs/serving.md, Storage)."""
    brokers = sum(each["spec"]["replicas"] for each in objects.of("KafkaNodePool"))
    config: Object = objects.named("Kafka", "perfusion")["spec"]["kafka"]["config"]
    if brokers < REPLICAS or config["min.insync.replicas"] < IN_SYNC or config["default.replication.factor"] < REPLICAS:
        yield f"{brokers} brokers, {config['min.insync.replicas']} of {config['default.replication.factor']} in sync"
    if config["auto.create.topics.enable"] is not False:
        yield "a misspelt topic is made instead of refused"
    for each in objects.of("KafkaTopic"):
        if each["spec"]["replicas"] < REPLICAS or each["spec"]["config"].get("min.insync.replicas", 0) < IN_SYNC:
            yield f"{each['metadata']['name']}: an acknowledged event may be lost with one broker"


def scaling_is_bounded(objects: Objects) -> Iterator[str]:
    deployments = {each["metadata"]["name"]: each["spec"] for each in objects.of("Deployment")}
    for each in objects.of("ScaledObject"):
        name, spec = each["metadata"]["name"], each["spec"]
        yield from (f"{name}: {problem}" for problem in loose(spec, deployments.get(spec["scaleTargetRef"]["name"])))


def loose(spec: Object, deployment: Object | None) -> Iterator[str]:
    if deployment is None:
        yield "it scales what is not there"
    elif "replicas" in deployment:
        yield "each apply of the Deployment undoes the scaling"
    if spec.get("minReplicaCount", 0) < 1:
        yield "the first call waits for a pod"
    fallback: Any = spec.get("fallback", {})
    if fallback.get("behavior") != "currentReplicasIfHigher":
        yield "an outage of Prometheus may take pods away"
    if any(each["metadata"].get("ignoreNullValues") != "false" for each in spec["triggers"]):
        yield "an empty Prometheus means no load"
    behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    if not behavior.get("scaleDown", {}).get("policies"):
        yield "it may shrink all at once"


POLICIES = (metrics_exist, methods_exist, topics_are_the_contracts, scaling_is_bounded)
PRODUCTION = (acknowledged_is_durable,)  # not of a cluster with one broker
