"""Whether an object has the form that Kubernetes 1.37, or the operator that reads it, wants; a name too many is wrong.

Knows JSON schemas and where they lie; not what objects mean.
"""

from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.deploy.k8s.manifests import SCHEMAS, Object

KUBERNETES = "1.37"
OPERATORS = {  # kind → the file of its schema, as tools.sh names them
    "Kafka": "kafka",
    "KafkaNodePool": "kafkanodepool",
    "KafkaTopic": "kafkatopic",
    "KafkaUser": "kafkauser",
    "ScaledObject": "keda",
    "Certificate": "certificate",
    "Issuer": "issuer",
    "ServiceMonitor": "servicemonitor",
    "PrometheusRule": "prometheusrule",
}
STRIMZI = ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")


def problem(thing: Object) -> str | None:
    """What is wrong with the form of an object."""
    try:
        if thing["kind"] in OPERATORS:
            validator(thing["kind"], thing["apiVersion"]).validate(thing)
        else:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path))
        return f"{thing['kind']} {thing['metadata']['name']}: {where}: {error.message[:300]}"
    return None


def is_here(kind: str) -> bool:
    return kind not in OPERATORS or (SCHEMAS / f"{OPERATORS[kind]}.yaml").exists()


@cache
def validator(kind: str, api_version: str) -> Any:
    """Of an operator's kind, by its CustomResourceDefinition."""
    definition = yaml.load((SCHEMAS / f"{OPERATORS[kind]}.yaml").read_text(), yaml.CSafeLoader)["spec"]
    assert definition["names"]["kind"] == kind
    versions = {f"{definition['group']}/{each['name']}": each for each in definition["versions"] if each["served"]}
    schema = closed(versions[api_version]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return jsonschema.Draft202012Validator(schema)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, where a name that is not there is refused; Kubernetes would drop it silently."""
    schema = dict(schema)
    if "properties" in schema:
        schema["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = closed(schema[key])
    return schema
