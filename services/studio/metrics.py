"""Prometheus metrics of the pages."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.runtime.metrics import LATENCY_BUCKETS_S


class StudioMetrics:
    """Requests by route, and who follows rounds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "perfusion_http_handled_total", "HTTP requests answered.", ["route", "status"], registry=registry
        )
        self.latency_s = Histogram(
            "perfusion_http_latency_seconds",
            "Time from an HTTP request's arrival to its answer's end; streams of a round's progress are not in it.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.lost_sights = Counter(
            "perfusion_studio_lost_sights_total",
            "Impressions and clicks of the shop that could not be sent in time.",
            registry=registry,
        )
        self.readers = Gauge("perfusion_studio_readers", "Open pages that follow a round.", registry=registry)
