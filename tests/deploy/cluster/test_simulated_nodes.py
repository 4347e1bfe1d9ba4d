"""The overlays on a real control plane with simulated nodes: everything is admitted, and scheduled as meant."""

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from deploy.cluster import simulated
from deploy.cluster.control_plane import ControlPlane
from deploy.cluster.machine import BUILD, ClusterError, Machine
from tests.deploy.cluster import overlays
from tests.deploy.k8s.manifests import NAME, OVERLAYS, Object

SECRETS = {
    "perfusion-database": ("user_embedding", "generation", "feedback", "items", "studio"),
    "perfusion-database-owners": ("user_embedding", "generation", "feedback", "items", "studio"),
    "perfusion-payments": ("key", "webhook_secret"),
    "perfusion-kafka": ("bootstrap",),
    "perfusion-object-store": ("pictures", "releases", "lake", "original"),
    "perfusion-object-store-keys": ("AWS_ACCESS_KEY_ID",),
}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with Machine(BUILD / "simulated") as machine:
        plane = ControlPlane(machine)
        overlays.install_definitions(plane)
        simulated.start(plane)
        simulated.add_nodes(plane, cpus=3, gpus=3)
        yield plane


def pods(plane: ControlPlane, part: str) -> list[Object]:
    found = plane.get("pods", "--namespace=perfusion", f"--selector={NAME}={part}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def deployments(plane: ControlPlane) -> list[str]:
    return [each["metadata"]["name"] for each in plane.get("deployments", "--namespace=perfusion")["items"]]


@pytest.fixture(scope="module", params=OVERLAYS)
def applied(request: pytest.FixtureRequest, plane: ControlPlane) -> Iterator[tuple[ControlPlane, str]]:
    """The cluster with one overlay in it, all of whose pods run; the next one finds it as it was."""
    secrets = {name: dict.fromkeys(keys, "x") for name, keys in SECRETS.items()}
    overlays.apply(plane, overlays.built(request.param), secrets)
    yield plane, request.param
    plane.kubectl("delete", "namespace", "perfusion", "--timeout=60s")


with_gpus = pytest.mark.parametrize("applied", ["gpu"], indirect=True)


def test_everything_is_admitted_and_every_pod_has_a_node(applied: tuple[ControlPlane, str]) -> None:
    plane, overlay = applied
    wanted = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(overlays.built(overlay))}
    for kind, name in wanted:
        assert plane.has(kind, name, "--namespace=perfusion"), f"{kind} {name}"
    for name in deployments(plane):
        plane.kubectl("rollout", "status", f"deployment/{name}", "--namespace=perfusion", "--timeout=60s")


def test_only_pods_that_want_a_gpu_are_on_nodes_with_one(applied: tuple[ControlPlane, str]) -> None:
    plane, overlay = applied
    with_gpu = {
        pod["metadata"]["labels"][NAME]
        for pod in plane.get("pods", "--namespace=perfusion")["items"]
        if pod["spec"].get("nodeName", "").startswith("gpu-")
    }
    assert with_gpu == ({"triton"} if overlay != "dev" else set())


def test_replicas_are_on_nodes_of_their_own(applied: tuple[ControlPlane, str]) -> None:
    plane, _ = applied
    for name in deployments(plane):
        nodes = [pod["spec"]["nodeName"] for pod in pods(plane, name)]
        assert len(set(nodes)) == len(nodes), f"{name}: {nodes}"


@with_gpus
def test_a_rollout_on_full_gpus_comes_to_its_end(applied: tuple[ControlPlane, str]) -> None:
    plane, _ = applied
    plane.kubectl("scale", "deployment/triton", "--replicas=3", "--namespace=perfusion")
    plane.kubectl("rollout", "status", "deployment/triton", "--namespace=perfusion", "--timeout=60s")
    plane.kubectl("rollout", "restart", "deployment/triton", "--namespace=perfusion")
    plane.kubectl("rollout", "status", "deployment/triton", "--namespace=perfusion", "--timeout=120s")


@with_gpus
def test_a_pod_without_a_free_gpu_waits_and_says_why(applied: tuple[ControlPlane, str]) -> None:
    plane, _ = applied
    plane.kubectl("scale", "deployment/triton", "--replicas=4", "--namespace=perfusion")

    def reasons() -> list[str]:
        return [
            condition.get("message", "")
            for pod in pods(plane, "triton")
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]

    plane.machine.wait("a pod waits", lambda: len(reasons()) == 1, 30.0)
    assert "Insufficient nvidia.com/gpu" in reasons()[0]
    plane.kubectl("scale", "deployment/triton", "--replicas=2", "--namespace=perfusion")


@with_gpus
def test_a_quota_bounds_the_gpus(applied: tuple[ControlPlane, str]) -> None:
    plane, _ = applied
    quota = ("quota", "gpus", "--namespace=perfusion")
    plane.kubectl("create", *quota, "--hard=requests.nvidia.com/gpu=2")
    plane.machine.wait("the quota counts", lambda: "used" in plane.get(*quota)["status"], 30.0)
    plane.kubectl("scale", "deployment/triton", "--replicas=3", "--namespace=perfusion")

    def refused() -> bool:
        conditions = plane.get("deployment", "triton", "--namespace=perfusion")["status"]["conditions"]
        return any("exceeded quota: gpus" in each["message"] for each in conditions)

    plane.machine.wait("the third pod is refused", refused, 30.0)
    assert len(pods(plane, "triton")) == 2
    plane.kubectl("delete", *quota)
    plane.kubectl("scale", "deployment/triton", "--replicas=2", "--namespace=perfusion")
    plane.kubectl("rollout", "status", "deployment/triton", "--namespace=perfusion", "--timeout=60s")


def test_a_pod_that_is_not_confined_is_refused(applied: tuple[ControlPlane, str]) -> None:
    plane, _ = applied
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": "perfusion"},
        "spec": {"containers": [{"name": "root", "image": "any", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(ClusterError, match='violates PodSecurity "restricted'):
        plane.kubectl("create", "--filename=-", stdin=json.dumps(pod))


def test_a_field_that_kubernetes_does_not_know_is_refused(applied: tuple[ControlPlane, str]) -> None:
    plane, overlay = applied
    wrong = overlays.built(overlay).replace("terminationGracePeriodSeconds:", "terminationGracePeriod:", 1)
    with pytest.raises(ClusterError, match="terminationGracePeriod"):
        plane.apply(wrong)


def test_a_node_can_be_drained(applied: tuple[ControlPlane, str]) -> None:
    """No budget blocks it, and the pods run elsewhere."""
    plane, overlay = applied
    drained = "gpu-0" if overlay != "dev" else pods(plane, "generation")[0]["spec"]["nodeName"]
    began = time.monotonic()
    plane.kubectl("drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
    assert time.monotonic() - began < 120
    for name in deployments(plane):
        plane.kubectl("rollout", "status", f"deployment/{name}", "--namespace=perfusion", "--timeout=60s")
    here = [
        pod for pod in plane.get("pods", "--namespace=perfusion")["items"] if pod["spec"].get("nodeName") == drained
    ]
    assert [pod["metadata"]["name"] for pod in here if "deletionTimestamp" not in pod["metadata"]] == []
    plane.kubectl("uncordon", drained)
