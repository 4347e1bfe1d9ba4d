"""Pods are confined, have bounds, and run what is pinned.

Each policy yields problems, none when it is kept.
"""

import re
import tomllib
from collections.abc import Iterator

from tests.deploy.k8s.manifests import ROOT, Objects

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGES = {f"perfusion-{folder.name}": folder for folder in (ROOT / "deploy" / "images").iterdir() if folder.is_dir()}


def containers_are_confined(objects: Objects) -> Iterator[str]:
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    for pod, container in objects.containers():
        if container.get("securityContext") != wanted:
            yield f"{pod}, {container['name']}: {container.get('securityContext')}"


def pods_are_confined(objects: Objects) -> Iterator[str]:
    accounts = {each["metadata"]["name"]: each for each in objects.of("ServiceAccount")}
    for pod in objects.pods():
        context = pod.spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0:
            yield f"{pod} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{pod} has no seccomp profile"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod} gets a token for Kubernetes' API"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod} gets variables of every Service, which may be called like settings"
        account = accounts.get(pod.spec.get("serviceAccountName", ""))
        if account is None or account.get("automountServiceAccountToken") is not False:
            yield f"{pod} has no account of its own"
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod} shares its node's namespaces"


def the_namespace_refuses_others(objects: Objects) -> Iterator[str]:
    [namespace] = objects.of("Namespace")
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace takes pods that are not restricted"
    for each in objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != namespace["metadata"]["name"]:
            yield f"{each['kind']} {each['metadata']['name']} is in another namespace"


def resources_are_bounded(objects: Objects) -> Iterator[str]:
    for pod, container in objects.containers():
        for kind in ("requests", "limits"):
            if missing := {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {})):
                yield f"{pod}, {container['name']} has no {kind} of {', '.join(sorted(missing))}"
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod}: its volume {volume['name']} may fill the node"


def images_are_pinned(objects: Objects) -> Iterator[str]:
    for pod, container in objects.containers():
        name, _, tag = container["image"].rpartition("/")[2].partition("@")[0].partition(":")  # wherever it lies
        if name not in IMAGES:
            yield f"{pod}, {container['name']}: no Dockerfile makes {name}"
        if tag != VERSION and not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
            yield f"{pod}, {container['name']}: {container['image']} is not the version {VERSION}"
    for job in objects.of("Job"):
        if not job["metadata"]["name"].endswith(f"-{VERSION.replace('.', '-')}"):
            yield f"the Job {job['metadata']['name']} stands in the way of the next version's"


def mounts_are_there(objects: Objects) -> Iterator[str]:
    """Nothing is written but into volumes, so every place that is written needs one."""
    for pod, container in objects.containers():
        volumes = {each["name"] for each in pod.spec.get("volumes", [])}
        mounts = {each["mountPath"]: each["name"] for each in container.get("volumeMounts", [])}
        if lost := set(mounts.values()) - volumes:
            yield f"{pod}, {container['name']} mounts {sorted(lost)}, which are not there"
        said = [*container.get("args", []), *(str(each.get("value")) for each in container.get("env", []))]
        if any("/models" in each for each in said) and "/models" not in mounts:
            yield f"{pod}, {container['name']} has no /models"


POLICIES = (
    containers_are_confined,
    pods_are_confined,
    the_namespace_refuses_others,
    resources_are_bounded,
    images_are_pinned,
    mounts_are_there,
)
