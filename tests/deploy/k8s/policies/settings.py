"""What manifests tell a service is what its Settings read, and all that they must be told.

Each policy yields problems, none when it is kept.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from contract.kafka_access import VARIABLE as KAFKA_CERTIFICATES_VARIABLE
from deploy.releases import tensorrt
from deploy.releases.arguments import CERTIFICATES_VARIABLE
from services import migrations
from services.runtime.settings import PREFIX
from tests.deploy.k8s.manifests import K8S, SETTINGS, Object, Objects, environment, of_key, runs, shared, value

SECRETS = {  # what such a variable might be, where a Secret has it
    "database_url": "postgresql://perfusion:secret@database/perfusion",
    "object_store_url": "s3://bucket/pictures",
    "kafka_bootstrap": "perfusion-kafka-bootstrap:9093",
    "token_issuer": "https://login.example.com",
}
MUST = (
    "certificates",
    "client_authority",
    "token_keys",
    "token_issuer",
    "token",
    "oidc_issuer",
    "oidc_client_secret",
    "_address",
    "_url",
    "kafka_bootstrap",
    "kafka_certificates",
    "model_repository",
    "database_migrate",
)  # defaults are one machine's
STOPPING = ("max_connection_age_s", "lame_duck_s", "drain_s")  # so are these


def variables_exist(objects: Objects) -> Iterator[str]:
    for pod, container in objects.containers():
        known = known_to(container)
        said = " ".join([*container.get("command", []), *container.get("args", [])])
        for name in environment(container):
            if name.startswith(PREFIX) and name not in known and f"$({name})" not in said and not in_script(said, name):
                yield f"{pod}, {container['name']}: nobody reads {name}"


def known_to(container: Object) -> set[str]:
    """The variables that the module of a container reads."""
    names: set[str] = set()
    for module in runs(container):
        service = module.removeprefix("services.").replace("_", "-")
        if service in SETTINGS:
            names |= {PREFIX + name.upper() for name in SETTINGS[service].model_fields}
        elif module == "services.migrations":
            names |= {PREFIX + name.upper() for name in migrations.SERVICES[container["args"][-1]][1].model_fields}
        elif module in ("deploy.releases.agent", "deploy.tensorrt"):
            names |= {tensorrt.VARIABLE, CERTIFICATES_VARIABLE, KAFKA_CERTIFICATES_VARIABLE}
        elif module == "training.retraining.collect":
            names |= {KAFKA_CERTIFICATES_VARIABLE}
    return names


def shared_variables_are_read(objects: Objects) -> Iterator[str]:
    """Of a ConfigMap that becomes variables as a whole."""
    for pod, container in objects.containers():
        for name in shared(objects, container):
            if name.startswith(PREFIX) and name not in known_to(container):
                yield f"{pod}, {container['name']}: nobody reads {name}"


def tensorrt_is_one_setting(objects: Objects) -> Iterator[str]:
    """Who builds plans, who fetches them and who loads by them are told the same, which is legal; or nobody is."""
    told = {
        str(pod): shared(objects, container).get(tensorrt.VARIABLE)
        for pod, container in objects.containers()
        if pod.part in ("triton", "releases", "plans") and runs(container)
    }
    if len(set(told.values())) > 1:
        yield f"{tensorrt.VARIABLE} differs: {told}"
    for said in {each for each in told.values() if each is not None}:
        try:
            tensorrt.Setting.parse(said)
        except tensorrt.SettingError as error:
            yield str(error)


def in_script(said: str, name: str) -> bool:
    """The retraining's script reads the environment itself."""
    return said.endswith("retrain.sh") and f"${name}" in (K8S / "base/retraining/retrain.sh").read_text()


def all_are_told(objects: Objects) -> Iterator[str]:
    for name, _, container, settings in objects.services():
        for field in settings.model_fields:
            needed = field.endswith(MUST) or field in STOPPING
            if needed and PREFIX + field.upper() not in environment(container) | shared(objects, container):
                yield f"{name} is not told {PREFIX}{field.upper()}"


def values_are_legal(objects: Objects) -> Iterator[str]:
    for name, _, container, settings in objects.services():
        told: dict[str, Any] = {}
        of_maps = {variable: {"value": each} for variable, each in shared(objects, container).items()}
        for variable, each in (of_maps | environment(container)).items():
            if (field := variable.removeprefix(PREFIX).lower()) in settings.model_fields:
                told[field] = each.get("value", of_key(objects, each) or SECRETS.get(field, ""))
        try:
            settings(**told)
        except ValidationError as error:
            yield f"{name}: {error}"


def databases_are_migrated_by_jobs(objects: Objects) -> Iterator[str]:
    jobs = {job["spec"]["template"]["spec"]["containers"][0]["args"][-1] for job in objects.of("Job")}
    if jobs != set(migrations.SERVICES):
        yield f"the migrations are of {sorted(jobs)}, the tables of {sorted(migrations.SERVICES)}"
    for name, _, container, settings in objects.services():
        if "database_migrate" in settings.model_fields and value(container, "PERFUSION_DATABASE_MIGRATE") != "false":
            yield f"{name} migrates its database itself"


def addresses_name_headless_services(objects: Objects) -> Iterator[str]:
    """A name without pods behind it, or with one address for all, would do on paper only."""
    there = {each["metadata"]["name"]: each["spec"] for each in objects.of("Service")}
    for name, _, container, settings in objects.services():
        for field in settings.model_fields:
            if not field.endswith("_address"):
                continue
            host, _, port = (value(container, PREFIX + field.upper()) or "").rpartition(":")
            wanted = field.removesuffix("_address").replace("_", "-")
            if host != wanted or host not in there:
                yield f"{name} calls {host!r} where it needs {wanted!r}"
            elif there[host].get("clusterIP") != "None":
                yield f"{host} has one address for all its pods"
            elif int(port) not in [each["port"] for each in there[host]["ports"]]:
                yield f"{name} calls port {port} of {host}, which has none such"


POLICIES = (
    variables_exist,
    shared_variables_are_read,
    tensorrt_is_one_setting,
    all_are_told,
    values_are_legal,
    databases_are_migrated_by_jobs,
    addresses_name_headless_services,
)
