"""Prometheus metrics of what only this service does: steps and groups, by release and arm (contract/rollout.py)."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.runtime.metrics import LATENCY_BUCKETS_S


class GenerationMetrics:
    """Rates and latencies of denoising steps and of whole groups."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.step_latency_s = Histogram(
            "perfusion_denoising_step_seconds",
            "Time of one denoising step, all candidates of one release together.",
            ["sampler"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.group_latency_s = Histogram(
            "perfusion_group_seconds",
            "Time from a valid request to its stored, acknowledged group.",
            ["release", "arm"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.groups = Counter(
            "perfusion_groups_total",
            "Rounds ended: made, repeated (given again), refused, late, failed or cancelled.",
            ["outcome", "release", "arm"],
            registry=registry,
        )
        self.candidates = Counter(
            "perfusion_candidates_total",
            "Pictures in the groups made, by the release that drew them.",
            ["release", "arm"],
            registry=registry,
        )
        self.taken_over = Counter(
            "perfusion_rounds_taken_over_total",
            "Rounds that the live release took over, of a release and arm that could not serve.",
            ["release", "arm"],
            registry=registry,
        )
        self.unreadable_rollouts = Counter(
            "perfusion_rollout_unreadable_total",
            "Requests served by the live release because the rollout could not be read.",
            registry=registry,
        )
