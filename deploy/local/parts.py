"""The parts of the local cluster, as a Procfile would list them: read PARTS at the end first.

Knows each part's command, settings and test of health. Parts may start in any order: each waits for what it needs.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local import kafka_broker, triton_server
from deploy.local.layout import ROOT, Layout, clean_environment, venv

HEALTH_TIMEOUT_S = 2.0
SERVICE_DRAIN_S = 10.0  # a service's limit for calls in flight after SIGTERM
Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A process of the cluster, with its checks."""

    name: str
    ports: tuple[str, ...]  # names in layout.PORTS; the first is the address shown
    command: Callable[[Layout], list[str]]
    environment: Callable[[Layout], dict[str, str]]
    is_ready: Callable[[Layout], bool]  # whether it does its work, not only runs
    drain_s: float  # how long it may take to stop by itself
    prepare: Callable[[Layout], None] = lambda layout: None  # before its process: files
    is_live: Callable[[Layout], bool] = lambda layout: True  # answers, and may be settled
    settle: Callable[[Layout, Say], None] = lambda layout, say: None  # after is_live, until is_ready


def service(name: str) -> Part:
    """Every service is started alike; only its name and port differ."""
    return Part(
        name=name,
        ports=(name,),
        command=lambda layout: [str(venv("services") / "bin" / "python"), "-m", f"services.{name}"],
        environment=lambda layout: service_environment(layout, name),
        is_ready=lambda layout: is_serving(layout.address(name)),
        drain_s=SERVICE_DRAIN_S + 5.0,
    )


def service_environment(layout: Layout, name: str) -> dict[str, str]:
    """The settings the services document, pointed at this cluster's parts."""
    own = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")]),
        "PYTHONUNBUFFERED": "1",
        "PERFUSION_DRAIN_S": str(SERVICE_DRAIN_S),
        "PERFUSION_HOST": "127.0.0.1",
        "PERFUSION_PORT": str(layout.port(name)),
        "PERFUSION_METRICS_PORT": str(layout.metrics_port(name)),
        "PERFUSION_TRITON_ADDRESS": layout.address("triton_grpc"),
        "PERFUSION_KAFKA_BOOTSTRAP": layout.address("kafka"),
        "PERFUSION_DATABASE_URL": f"sqlite:///{layout.home / f'{name}.sqlite'}",
        "PERFUSION_OBJECT_STORE_URL": f"file://{layout.home / 'objects'}",
        "PERFUSION_MODEL_REPOSITORY": str(layout.model_repository),
    }
    if layout.patience_s > Layout.patience_s:  # models larger than the services' limits were made for
        limits = ("TRITON_TIMEOUT_S", "SERVICE_TIMEOUT_S", "DEFAULT_DEADLINE_S", "HEALTH_TIMEOUT_S")
        own |= {f"PERFUSION_{limit}": str(layout.patience_s) for limit in limits}
    peers = {f"PERFUSION_{peer.upper()}_ADDRESS": layout.address(peer) for peer in SERVICES}
    return clean_environment() | own | peers


def is_serving(address: str) -> bool:
    """The service's own health check, which covers its dependencies."""
    request = health_pb2.HealthCheckRequest(service="")
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=HEALTH_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


TRITON = Part(
    name="triton",
    ports=("triton_grpc", "triton_http", "triton_metrics"),
    prepare=triton_server.prepare,
    command=triton_server.command,
    environment=triton_server.environment,
    is_live=triton_server.is_live,
    settle=triton_server.load_release,
    is_ready=triton_server.is_ready,
    drain_s=8.0,
)
KAFKA = Part(
    name="kafka",
    ports=("kafka", "kafka_controller"),
    prepare=kafka_broker.prepare,
    command=kafka_broker.command,
    environment=kafka_broker.environment,
    is_live=kafka_broker.is_live,
    settle=kafka_broker.create_topics,
    is_ready=kafka_broker.is_ready,
    drain_s=10.0,
)
SERVICES = ("user_embedding", "ranking", "generation", "feedback")

PARTS: tuple[Part, ...] = (TRITON, KAFKA, *(service(name) for name in SERVICES))


def part(name: str) -> Part:
    found = next((p for p in PARTS if p.name == name), None)
    if found is None:
        sys.exit(f"no part is called {name!r}; there are {', '.join(p.name for p in PARTS)}")
    return found
