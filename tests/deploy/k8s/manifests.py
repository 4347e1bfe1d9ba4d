"""What the overlays build, as objects that policies ask: pods, their containers, what selects them.

Knows Kubernetes' shapes; no policy.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from deploy.local.parts import SERVICES, STUDIO
from services.runtime.settings import ProcessSettings, RuntimeSettings

ROOT = Path(__file__).parents[3]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))
KUSTOMIZE = ROOT / "build" / "go" / "bin" / "kustomize"
SCHEMAS = ROOT / "build" / "k8s" / "schemas"
NAME = "app.kubernetes.io/name"

Object = dict[str, Any]
SETTINGS: Mapping[str, type[ProcessSettings]] = {  # of each service, by its name in the cluster
    name.replace("_", "-"): import_module(f"services.{name}.settings").Settings for name in (*SERVICES, STUDIO.name)
}
CALLED = tuple(name for name, kind in SETTINGS.items() if issubclass(kind, RuntimeSettings))  # by gRPC


@cache
def text_of(overlay: str) -> str:
    """What an overlay builds, as YAML."""
    built = subprocess.run(
        [KUSTOMIZE, "build", K8S / "overlays" / overlay], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return built.stdout


def build(overlay: str) -> "Objects":
    """A new copy, which a test may change."""
    return Objects(list(yaml.load_all(text_of(overlay), yaml.CSafeLoader)))


@dataclass(frozen=True)
class Pod:
    """The pods of one workload."""

    owner: Object
    labels: dict[str, str]
    spec: Object

    def __str__(self) -> str:
        return f"{self.owner['kind']} {self.owner['metadata']['name']}"

    @property
    def part(self) -> str:
        return self.labels.get(NAME, "")

    @property
    def containers(self) -> list[Object]:
        """Those that start it and those that run beside it included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def service(self) -> Object | None:
        """The container of one of the services."""
        return next((each for each in self.spec["containers"] if each["name"] == "service"), None)

    def calls_module(self, name: str) -> bool:
        """Whether a container runs a module, or a module below it."""
        return any(module == name or module.startswith(f"{name}.") for each in self.containers for module in runs(each))


class Objects(list[Object]):
    """All objects of a cluster."""

    def of(self, *kinds: str) -> list[Object]:
        return [each for each in self if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        [found] = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[Pod]:
        for each in self.of("Deployment", "Job", "CronJob"):
            spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
            yield Pod(each, spec["template"]["metadata"]["labels"], spec["template"]["spec"])

    def pod(self, part: str) -> Pod:
        return next(each for each in self.pods() if each.part == part)

    def services(self) -> Iterator[tuple[str, Pod, Object, type[ProcessSettings]]]:
        """Of each service: its name, its pods, its container, its settings."""
        for name, settings in SETTINGS.items():
            pod = self.pod(name)
            assert pod.service is not None
            yield name, pod, pod.service, settings

    def containers(self) -> Iterator[tuple[Pod, Object]]:
        for pod in self.pods():
            for container in pod.containers:
                yield pod, container


def runs(container: Object) -> list[str]:
    """The module that a container of our images runs: their entry point is `python -m`."""
    return container.get("args", [])[:1] if "triton" not in container["image"].split(":")[0] else []


def environment(container: Object) -> dict[str, Object]:
    return {each["name"]: each for each in container.get("env", [])}


def shared(objects: Objects, container: Object) -> dict[str, str]:
    """The variables that a container has of ConfigMaps."""
    maps = [each["configMapRef"]["name"] for each in container.get("envFrom", []) if "configMapRef" in each]
    return {name: value for each in maps for name, value in objects.named("ConfigMap", each)["data"].items()}


def of_key(objects: Objects, variable: Object) -> str | None:
    """The value of a variable that is one key of a ConfigMap."""
    key = variable.get("valueFrom", {}).get("configMapKeyRef")
    return None if key is None else objects.named("ConfigMap", key["name"])["data"][key["key"]]


def value(container: Object, variable: str) -> str | None:
    return environment(container).get(variable, {}).get("value")


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector of Kubernetes takes these labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", "only `In` is used here"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True
