"""The parts of the local cluster, as a Procfile would list them: read PARTS at the end first.

Knows each part's command, settings and test of health. Parts may start in any order: each waits for what it needs.
"""

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from deploy.local import kafka_broker, triton_server
from deploy.local.authority import Authority
from deploy.local.clients import open_channel
from deploy.local.layout import ROOT, Layout, clean_environment, venv
from deploy.local.payments.books import METHODS
from deploy.local.triton_server import DENOISER

HEALTH_TIMEOUT_S = 2.0
ROWS_ON_CORES = 8  # in a call of the denoiser: it ends soon, so that a small round waits little for a large one
# Who can log in at the studio on this machine, by what the identity provider says of them.
PERSONS = (
    {"sub": "lin", "name": "Lin", "merchants": ["minimalist-store"]},
    {"sub": "chen", "name": "Chen", "merchants": ["luxury-store", "minimalist-store"]},
)
CODE = os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")])  # the services', for Python
SERVICE_DRAIN_S = 10.0  # a service's limit for calls in flight after SIGTERM
Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A process of the cluster, with its checks."""

    name: str
    ports: tuple[str, ...]  # names in layout.PORTS; the first is the address shown; none: nobody calls it
    command: Callable[[Layout], list[str]]
    environment: Callable[[Layout], dict[str, str]]
    is_ready: Callable[[Layout], bool]  # whether it does its work, not only runs
    drain_s: float  # how long it may take to stop by itself
    prepare: Callable[[Layout], None] = lambda layout: None  # before its process: files
    is_live: Callable[[Layout], bool] = lambda layout: True  # answers, and may be settled
    settle: Callable[[Layout, Say], None] = lambda layout, say: None  # after is_live, until is_ready
    shortfall: Callable[[Layout], str] = lambda layout: "not serving"  # what one says that is not ready


def service(name: str) -> Part:
    """Every service is started alike; only its name and port differ."""
    return Part(
        name=name,
        ports=(name,),
        command=lambda layout: [str(venv("services") / "bin" / "python"), "-m", f"services.{name}"],
        prepare=lambda layout: Authority(layout.home).prepare([name]),
        environment=lambda layout: service_environment(layout, name),
        is_ready=lambda layout: is_serving(layout, name),
        shortfall=lambda layout: unserved(layout.metrics_port(name)),
        drain_s=SERVICE_DRAIN_S + 10.0,  # and calls that are cut off clean up
    )


def service_environment(layout: Layout, name: str) -> dict[str, str]:
    """The settings the services document, pointed at this cluster's parts."""
    own = {
        "PYTHONPATH": CODE,
        "PYTHONUNBUFFERED": "1",
        "PERFUSION_DRAIN_S": str(SERVICE_DRAIN_S),
        "PERFUSION_HOST": "127.0.0.1",
        "PERFUSION_PORT": str(layout.port(name)),
        "PERFUSION_METRICS_PORT": str(layout.metrics_port(name)),
        "PERFUSION_CERTIFICATES": str(Authority(layout.home).folder(name)),
        "PERFUSION_CLIENT_AUTHORITY": str(Authority(layout.home).clients),
        "PERFUSION_TOKEN_KEYS": str(Authority(layout.home).tokens),
        "PERFUSION_TRITON_ADDRESS": layout.address("triton_grpc"),
        "PERFUSION_KAFKA_BOOTSTRAP": layout.address("kafka"),
        "PERFUSION_DATABASE_URL": f"sqlite:///{layout.home / f'{name}.sqlite'}",
        "PERFUSION_OBJECT_STORE_URL": f"file://{layout.home / 'objects'}",
        "PERFUSION_MODEL_REPOSITORY": str(layout.model_repository),
    }
    if layout.patience_s > Layout.patience_s:  # models larger than the services' limits were made for
        limits = ("TRITON_TIMEOUT_S", "SERVICE_TIMEOUT_S", "DEFAULT_DEADLINE_S", "HEALTH_TIMEOUT_S")
        own |= {f"PERFUSION_{limit}": str(layout.patience_s) for limit in limits}
    if name == "generation":
        own |= _denoiser_calls(layout)
    if name == "items":
        own |= _payments(layout)
    peers = {f"PERFUSION_{peer.upper()}_ADDRESS": layout.address(peer) for peer in SERVICES}
    return clean_environment() | own | peers


def _payments(layout: Layout) -> dict[str, str]:
    """Buyers pay at this machine's own provider, and come back to the shop."""
    authority = Authority(layout.home)
    return {
        "PERFUSION_PAYMENT_URL": layout.payment_url,
        "PERFUSION_PAYMENT_KEY": str(authority.payment_key),
        "PERFUSION_PAYMENT_WEBHOOK_SECRET": str(authority.webhook_secret),
        "PERFUSION_PAYMENT_RETURN_URL": f"{layout.studio_url}/orders",
    }


def _denoiser_calls(layout: Layout) -> dict[str, str]:
    """As many as Triton runs side by side. On cores a candidate more costs a call as much as the first one did."""
    groups = triton_server.configuration(layout.model_repository, DENOISER).instance_group
    return {
        "PERFUSION_DENOISER_CALLS": str(sum(group.count for group in groups)),
        "PERFUSION_DENOISER_LEAST_ROWS": "1",
        "PERFUSION_DENOISER_MOST_ROWS": str(ROWS_ON_CORES),
    }


def is_serving(layout: Layout, service: str, method: str = "") -> bool:
    """The service's own health: of all its methods, or of one, e.g. "perfusion.v1.RankingService/Rank"."""
    request = health_pb2.HealthCheckRequest(service=method)
    try:
        with open_channel(layout, service) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=HEALTH_TIMEOUT_S)
    except (grpc.RpcError, OSError, ValueError):  # it does not answer; or there is no client that could ask
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def metrics(metrics_port: int) -> list[Metric]:
    """What a service shows to Prometheus; OSError where it does not answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=HEALTH_TIMEOUT_S) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def unserved(metrics_port: int) -> str:
    """Which methods a service does not serve, and what it misses: "serving 4 of 5 methods, not Generate: kafka"."""
    try:
        shown = metrics(metrics_port)
    except OSError:
        return "not serving"
    ready = {s.labels["method"]: s.value for f in shown if f.name == "perfusion_method_ready" for s in f.samples}
    up = {s.labels["dependency"]: s.value for f in shown if f.name == "perfusion_dependency_up" for s in f.samples}
    without = [method.rpartition("/")[2] for method, is_ready in ready.items() if not is_ready]
    missed = ", ".join(name for name, is_up in up.items() if not is_up)
    if len(without) in (0, len(ready)):  # with nothing missing, it is stopping
        return f"not serving: {missed}" if missed else "not serving"
    return f"serving {len(ready) - len(without)} of {len(ready)} methods, not {', '.join(without)}: {missed}"


TRITON = Part(
    name="triton",
    ports=("triton_grpc", "triton_metrics"),
    prepare=triton_server.prepare,
    command=triton_server.command,
    environment=triton_server.environment,
    is_live=triton_server.is_live,
    settle=triton_server.load_release,
    is_ready=triton_server.is_ready,
    drain_s=8.0,
)
KEEPER = Part(
    name="keeper",
    ports=(),
    command=lambda layout: [
        *(str(venv("services") / "bin" / "python"), "-m", "deploy.local.keeper", "--name", layout.name),
        *("--port-offset", str(layout.port_offset), "--model-repository", str(layout.model_repository)),
        *("--patience", str(layout.patience_s)),
    ],
    environment=lambda layout: clean_environment() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    is_ready=lambda layout: True,  # it has no clients: it works while it runs
    drain_s=5.0,
)
KAFKA = Part(
    name="kafka",
    ports=("kafka", "kafka_controller"),
    prepare=kafka_broker.prepare,
    command=kafka_broker.command,
    environment=kafka_broker.environment,
    is_live=kafka_broker.is_live,
    settle=kafka_broker.settle,
    is_ready=kafka_broker.is_ready,
    drain_s=10.0,
)
SERVICES = ("user_embedding", "ranking", "generation", "feedback", "items")
PAYMENT_PROVIDER = Part(
    name="payment_provider",
    ports=("payment_provider",),
    prepare=lambda layout: Authority(layout.home).prepare([]),
    command=lambda layout: [
        *(str(venv("services") / "bin" / "python"), "-m", "deploy.local.payments"),
        *("--home", str(Authority(layout.home).payments), "--port", str(layout.port("payment_provider"))),
        *("--post-to", f"{layout.studio_url}/payments"),
    ],
    environment=lambda _: clean_environment() | {"PYTHONPATH": CODE},
    is_ready=lambda layout: _answers(f"{layout.payment_url}/healthz"),
    drain_s=5.0,
)

PARTS: tuple[Part, ...] = (TRITON, KEEPER, KAFKA, PAYMENT_PROVIDER, *(service(name) for name in SERVICES))
IDENTITY_PROVIDER = Part(
    name="identity_provider",
    ports=("identity_provider",),
    command=lambda layout: [
        *(str(venv("") / "bin" / "python"), "-W", "ignore", "-m", "oidc_provider_mock"),
        *("--host", "127.0.0.1", "--port", str(layout.port("identity_provider"))),
        *(part for person in PERSONS for part in ("--user-claims", json.dumps(person))),
    ],
    environment=lambda _: clean_environment() | {"PYTHONUNBUFFERED": "1"},
    is_ready=lambda layout: _answers(f"{layout.issuer}/.well-known/openid-configuration"),
    drain_s=5.0,
)
STUDIO = Part(
    name="studio",
    ports=("studio",),
    command=lambda layout: [str(venv("services") / "bin" / "python"), "-m", "services.studio"],
    prepare=lambda layout: Authority(layout.home).prepare([]),
    environment=lambda layout: studio_environment(layout),
    is_ready=lambda layout: _answers(f"http://127.0.0.1:{layout.metrics_port('studio')}/health/perfusion.Studio"),
    shortfall=lambda layout: unserved(layout.metrics_port("studio")),
    drain_s=SERVICE_DRAIN_S + 10.0,
)
ON_DEMAND: tuple[Part, ...] = (IDENTITY_PROVIDER, STUDIO)  # `make studio` starts what it needs


def studio_environment(layout: Layout) -> dict[str, str]:
    """The studio is a client of the platform, with a client's certificate and token."""
    authority = Authority(layout.home)
    client = authority.studio
    return service_environment(layout, "studio") | {
        "PERFUSION_CERTIFICATES": str(client),
        "PERFUSION_TOKEN": str(client / "token"),
        "PERFUSION_PUBLIC_URL": layout.studio_url,
        "PERFUSION_PAYMENT_METHODS": ",".join(METHODS),
        "PERFUSION_OIDC_ISSUER": layout.issuer,
        "PERFUSION_OIDC_CLIENT_SECRET": str(authority.login_secret),
    }


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=HEALTH_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def part(name: str) -> Part:
    found = next((p for p in (*PARTS, *ON_DEMAND) if p.name == name), None)
    if found is None:
        sys.exit(f"no part is called {name!r}; there are {', '.join(p.name for p in (*PARTS, *ON_DEMAND))}")
    return found
