"""Who may call whom is who does: the network policies are compared with the addresses in the code, both ways.

Each policy yields problems, none when it is kept.
"""

from collections.abc import Iterator
from typing import Any

from services import migrations
from tests.deploy.k8s.manifests import SETTINGS, Object, Objects, Pod, environment, selects

Flow = tuple[str, str, int]  # caller, called, port
KAFKA, DATABASE, WEB = (
    "kafka",
    "database",
    "the web",
)  # the object store, who logs merchants in, the provider of payments
MONITORING, BROWSERS = "monitoring", "browsers"
SPACES = {  # who comes from another namespace, by that namespace's labels
    MONITORING: {"kubernetes.io/metadata.name": "monitoring"},
    BROWSERS: {"perfusion/ingress": "allowed"},  # the Ingress' controller
}
OUTSIDE = {5432: DATABASE, 443: WEB}
BROKER = {"strimzi.io/cluster": "perfusion", "strimzi.io/kind": "Kafka"}  # Strimzi labels its pods so
PORTS = {KAFKA: 9093, DATABASE: 5432, WEB: 443, "triton": 8001, "triton metrics": 8002}


def only_what_calls_may(objects: Objects) -> Iterator[str]:
    does, may = set(flows_of_the_code(objects)), set(allowed(objects))
    yield from (f"{caller} may not call {called}:{port}, and has to" for caller, called, port in sorted(does - may))
    yield from (f"{caller} may call {called}:{port}, and never does" for caller, called, port in sorted(may - does))


def the_rest_is_denied(objects: Objects) -> Iterator[str]:
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if all(each["spec"] != everything for each in objects.of("NetworkPolicy")):
        yield "what no policy names is not denied"


def flows_of_the_code(objects: Objects) -> Iterator[Flow]:
    """By the settings that are addresses, and the commands that name a place."""
    for name, settings in SETTINGS.items():
        for field in settings.model_fields:
            if (called := field.removesuffix("_address")) != field:
                port = (
                    PORTS["triton"] if called == "triton" else SETTINGS[called.replace("_", "-")].model_fields["port"]
                )
                yield name, called.replace("_", "-"), port if isinstance(port, int) else port.default
            elif field == "kafka_bootstrap":
                yield name, KAFKA, PORTS[KAFKA]
            elif field == "database_url":
                yield name, DATABASE, PORTS[DATABASE]
            elif field in ("object_store_url", "oidc_issuer", "payment_url"):
                yield name, WEB, PORTS[WEB]
            elif field == "public_url":
                yield BROWSERS, name, settings.model_fields["port"].default
        yield MONITORING, name, settings.model_fields["metrics_port"].default
    yield MONITORING, "triton", PORTS["triton metrics"]
    for pod in objects.pods():
        for called in places_named(pod):
            yield pod.part, called, PORTS[called]


def places_named(pod: Pod) -> Iterator[str]:
    """Of pods that are no services, or have one beside them."""
    said = {each for container in pod.containers for each in container.get("args", [])}
    variables = {name for container in pod.containers for name in environment(container)}
    if pod.calls_module("services.migrations"):
        assert {each.replace("_", "-") for each in migrations.SERVICES} <= set(SETTINGS)
        yield DATABASE
    if "PERFUSION_RELEASES_URL" in variables or "LAKE" in variables:
        yield WEB
    if "--kafka" in said:
        yield KAFKA
    if "lead" in said:  # operators run deploy.releases there, which loads into every Triton
        yield "triton"


def allowed(objects: Objects) -> Iterator[Flow]:
    """What both ends allow; of an end outside the namespace, what ours does."""
    pods = {pod.part: pod for pod in objects.pods()}
    for caller, source in pods.items():
        for called, target in pods.items():
            for port in ports(target):
                if leaves(objects, source.labels, target.labels, port) and enters(objects, source, target, port):
                    yield caller, called, port["containerPort"]
        for number, called in OUTSIDE.items():
            if leaves(objects, source.labels, None, {"containerPort": number}):
                yield caller, called, number
        broker = {"containerPort": PORTS[KAFKA]}
        if leaves(objects, source.labels, BROKER, broker) and broker_takes(objects, source.labels):
            yield caller, KAFKA, PORTS[KAFKA]
    for called, target in pods.items():
        for port in ports(target):
            for space in SPACES:
                if enters(objects, space, target, port):
                    yield space, called, port["containerPort"]


def ports(pod: Pod) -> list[Object]:
    return [port for container in pod.containers for port in container.get("ports", [])]


def leaves(objects: Objects, source: dict[str, str], target: dict[str, str] | None, port: Object) -> bool:
    """Whether a policy lets a pod call; None: an address outside."""
    for policy in objects.of("NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], source):
            for rule in policy["spec"].get("egress", []):
                if has_port(rule, port) and reaches(rule.get("to"), target):
                    return True
    return False


def enters(objects: Objects, source: Pod | str, target: Pod, port: Object) -> bool:
    """Whether a policy lets a pod be called by another, or from one of the SPACES."""
    for policy in objects.of("NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], target.labels):
            for rule in policy["spec"].get("ingress", []):
                peers = rule["from"]
                if isinstance(source, Pod):
                    may = reaches(peers, source.labels)
                else:
                    may = any(selects(each["namespaceSelector"], SPACES[source]) for each in others(peers))
                if may and has_port(rule, port):
                    return True
    return False


def broker_takes(objects: Objects, source: dict[str, str]) -> bool:
    [listener] = objects.named("Kafka", "perfusion")["spec"]["kafka"]["listeners"]
    return listener["port"] == PORTS[KAFKA] and reaches(listener["networkPolicyPeers"], source)


def reaches(peers: list[Object] | None, labels: dict[str, str] | None) -> bool:
    """Peers of the same namespace by their labels; without peers, anybody, which is how the outside is meant."""
    if peers is None or labels is None:
        return peers is None and labels is None
    return any("namespaceSelector" not in each and selects(each["podSelector"], labels) for each in peers)


def others(peers: list[Object]) -> list[Object]:
    return [each for each in peers if "namespaceSelector" in each]


def has_port(rule: Object, port: Object) -> bool:
    wanted: list[Any] = [each["port"] for each in rule.get("ports", [])]
    return not wanted or port["containerPort"] in wanted or port.get("name") in wanted


POLICIES = (only_what_calls_may, the_rest_is_denied)
