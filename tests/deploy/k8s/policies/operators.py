"""What operators read: Kafka's topics, the bounds of scaling.

Each policy yields problems, none when it is kept.
"""

from collections.abc import Iterator
from typing import Any

from contract.topics import TOPICS
from tests.deploy.k8s.manifests import Object, Objects

REPLICAS, IN_SYNC = 3, 2


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
    for each in objects.of("KafkaTopic", "KafkaUser", "KafkaNodePool"):
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


POLICIES = (topics_are_the_contracts, scaling_is_bounded)
PRODUCTION = (acknowledged_is_durable,)  # not of a cluster with one broker
