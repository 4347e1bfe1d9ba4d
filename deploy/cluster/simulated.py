"""Simulated nodes (kwok): the real control plane schedules pods on them, and they say that the pods run.

Knows what kwok wants; no pod runs.
"""

import json

from deploy.cluster.control_plane import ControlPlane
from deploy.cluster.machine import BUILD

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}


def start(control_plane: ControlPlane) -> None:
    """Starts kwok. A node that it plays needs the annotation that `node` gives."""
    control_plane.machine.start(
        "kwok",
        *("kwok", f"--kubeconfig={control_plane.authority.kubeconfig('kwok', 'kwok', 'system:masters')}"),
        f"--config={BUILD / 'stages.yaml'}",
        *("--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"),
        *("--cidr=10.244.0.0/16", "--node-ip=10.0.0.1", "--node-lease-duration-seconds=40"),
    )


def node(name: str, zone: str, gpus: int = 0) -> str:
    """A node of 16 cores and 64 GiB, as JSON; one with GPUs is tainted, as NVIDIA's nodes are."""
    has = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi", "pods": "110"} | (
        {GPU: str(gpus)} if gpus else {}
    )
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "topology.kubernetes.io/zone": zone,
                },
            },
            "spec": {"taints": [TAINT] if gpus else []},
            "status": {"allocatable": has, "capacity": has},
        }
    )


def add_nodes(control_plane: ControlPlane, cpus: int, gpus: int) -> None:
    """So many nodes without a GPU, cpu-0 and on, and with one, gpu-0 and on."""
    texts = [node(f"cpu-{i}", f"zone-{i}") for i in range(cpus)]
    texts += [node(f"gpu-{i}", f"zone-{i}", 1) for i in range(gpus)]
    for text in texts:
        control_plane.kubectl("create", "--filename=-", stdin=text)
    control_plane.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=30s")
