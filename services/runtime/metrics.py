"""Prometheus metrics of every RPC and of health. Services add their own to the same registry."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from contract import tracing

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RpcMetrics:
    """Count and latency per method and status, and calls in flight."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "perfusion_rpc_handled_total", "RPCs finished, by gRPC status.", ["method", "code"], registry=registry
        )
        self.latency_s = Histogram(
            "perfusion_rpc_latency_seconds",
            "Time from an RPC's arrival to its end.",
            ["method", "code"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge("perfusion_rpc_in_flight", "RPCs being served.", ["method"], registry=registry)

    def expect(self, method: str) -> None:
        """Shows 0 before the first fault of ours: a series that begins with 1 is no increase, so no alert sees it."""
        self.handled.labels(method, "INTERNAL")


class CertificateMetrics:
    """When the process's certificate ends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expires_s = Gauge(
            "perfusion_certificate_expires_timestamp_seconds",
            "When the certificate in use ends, seconds since 1970.",
            registry=registry,
        )


class KafkaCertificateMetrics:
    """When the certificate that is shown to Kafka ends, where it is another one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expires_s = Gauge(
            "perfusion_kafka_certificate_expires_timestamp_seconds",
            "When the certificate for Kafka ends, seconds since 1970.",
            registry=registry,
        )


class HealthMetrics:
    """What the health checks last saw, and which methods can be served by it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge("perfusion_dependency_up", "1 when the dependency answers.", ["dependency"], registry=registry)
        self.ready = Gauge(
            "perfusion_method_ready", "1 when all that the method needs answers.", ["method"], registry=registry
        )


class SpanMetrics(Collector):
    """What became of this process's spans."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """As they are counted where spans are exported."""
        found = CounterMetricFamily(
            "perfusion_spans", "Spans exported, failed to be, or dropped since too many waited.", labels=["outcome"]
        )
        for outcome, count in tracing.outcomes().items():
            found.add_metric([outcome], count)
        yield found
