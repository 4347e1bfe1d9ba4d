"""Kafka knows every part by a certificate of its own, and each may do what the contract's table says.

Each policy yields problems, none when it is kept.
"""

from collections.abc import Iterator

from contract.kafka_access import AUTHORITY, CERTIFICATE, KEY, VARIABLE
from contract.topics import RIGHTS
from tests.deploy.k8s.manifests import Object, Objects, value

FOLDER = "/kafka-certificates"
USERS = {part.replace("_", "-"): rights for part, rights in RIGHTS.items()}


def brokers_know_who_calls(objects: Objects) -> Iterator[str]:
    spec: Object = objects.named("Kafka", "perfusion")["spec"]
    for each in spec["kafka"]["listeners"]:
        if not each["tls"] or each.get("authentication") != {"type": "tls"}:
            yield f"the listener {each['name']} takes who shows no certificate"
    if spec["kafka"].get("authorization") != {"type": "simple"}:
        yield "who is known may do everything, or is more than a user"
    if spec["entityOperator"].get("userOperator", {}).get("secretPrefix") != "kafka-":
        yield "nobody makes the users' certificates, kafka-NAME"


def users_have_the_contracts_rights(objects: Objects) -> Iterator[str]:
    users = {each["metadata"]["name"]: each["spec"] for each in objects.of("KafkaUser")}
    if set(users) != set(USERS):
        yield f"the users are {sorted(users)}, the contract's {sorted(USERS)}"
    for name in set(users) & set(USERS):
        if users[name]["authentication"] != {"type": "tls"}:
            yield f"{name} is not known by a certificate"
        may = {(operation, resource) for operation, resource in rights_of(users[name]["authorization"])}
        wanted = {("Read", topic) for topic in USERS[name].reads} | {("Write", topic) for topic in USERS[name].writes}
        yield from (
            f"{name} may {operation} {resource}, and never does" for operation, resource in sorted(may - wanted)
        )
        yield from (
            f"{name} may not {operation} {resource}, and has to" for operation, resource in sorted(wanted - may)
        )


def rights_of(authorization: Object) -> Iterator[tuple[str, str]]:
    """Each operation with what it is for: a topic by its name, or whatever else there is."""
    for each in authorization["acls"]:
        resource = each["resource"]
        whole = each.get("type", "allow"), resource["type"], resource.get("patternType", "literal")
        name = resource["name"] if whole == ("allow", "topic", "literal") else f"{whole} {resource.get('name')}"
        yield from ((operation, name) for operation in each["operations"])


def parts_show_kafka_their_own_certificate(objects: Objects) -> Iterator[str]:
    for part in USERS:
        pod = objects.pod(part)
        wanted = [
            {
                "secret": {
                    "name": f"kafka-{part}",
                    "items": [{"key": "user.crt", "path": CERTIFICATE}, {"key": "user.key", "path": KEY}],
                }
            },
            {"secret": {"name": "perfusion-cluster-ca-cert", "items": [{"key": "ca.crt", "path": AUTHORITY}]}},
        ]
        shown = [each["projected"]["sources"] for each in pod.spec["volumes"] if each["name"] == "kafka-certificates"]
        if shown != [wanted]:
            yield f"{part} shows Kafka {shown}"
        [container] = pod.spec["containers"]
        mount = {"name": "kafka-certificates", "mountPath": FOLDER, "readOnly": True}
        if mount not in container["volumeMounts"]:
            yield f"{part} has no certificate in {FOLDER}"
        if value(container, VARIABLE) != FOLDER:
            yield f"{part} is not told of its certificate for Kafka"
    for pod in objects.pods():
        if pod.part not in USERS and "kafka-" in str(pod.spec.get("volumes")):
            yield f"{pod.part} has a certificate for Kafka, which it does not speak to"


POLICIES = (brokers_know_who_calls, users_have_the_contracts_rights, parts_show_kafka_their_own_certificate)
