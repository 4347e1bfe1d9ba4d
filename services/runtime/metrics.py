"""Prometheus metrics of every RPC, and the HTTP server that shows them. Services add their own to the same registry."""

import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RpcMetrics:
    """Count, latency and calls in flight, per method."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "perfusion_rpc_handled_total", "RPCs finished, by gRPC status.", ["method", "code"], registry=registry
        )
        self.latency_s = Histogram(
            "perfusion_rpc_latency_seconds",
            "Time from an RPC's arrival to its end.",
            ["method"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge("perfusion_rpc_in_flight", "RPCs being served.", ["method"], registry=registry)


class DependencyMetrics:
    """What the health checks last saw."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge("perfusion_dependency_up", "1 when the dependency answers.", ["dependency"], registry=registry)


class _Silent(WSGIRequestHandler):
    """A scrape every few seconds is not worth a log line."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Shows the registry over HTTP from a thread of its own until `shutdown`, which returns within a moment."""
    server = make_server(host, port, make_wsgi_app(registry), ThreadingWSGIServer, _Silent)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True).start()
    return server
