"""Prometheus metrics of what only this service does: steps and groups."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.runtime.metrics import LATENCY_BUCKETS_S


class GenerationMetrics:
    """Rates and latencies of denoising steps and of whole groups."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.step_latency_s = Histogram(
            "perfusion_denoising_step_seconds",
            "Time of one denoising step, all candidates together.",
            ["sampler"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.group_latency_s = Histogram(
            "perfusion_group_seconds",
            "Time from a valid request to its stored, acknowledged group.",
            ["release"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.groups = Counter(
            "perfusion_groups_total",
            "Rounds ended: made, repeated (given again), refused, late, failed or cancelled.",
            ["outcome", "release"],
            registry=registry,
        )
        self.candidates = Counter(
            "perfusion_candidates_total", "Pictures in the groups made.", ["release"], registry=registry
        )
