"""Prometheus metrics of what only this service does: steps and groups, by release and arm (contract/rollout.py)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
        self.call_rows = Histogram(
            "perfusion_denoiser_call_rows",
            "Candidates in one call of the denoiser.",
            buckets=(1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32),
            registry=registry,
        )
        self.sample_steps = Counter(
            "perfusion_sample_steps_total",
            "Denoising steps of one candidate each, of rounds that ended: delivered, or in vain.",
            ["outcome"],
            registry=registry,
        )
        self.sample_steps_left = Gauge(
            "perfusion_sample_steps_left",
            "Denoising steps of one candidate each, that rounds in flight and in the queue still need.",
            registry=registry,
        )
        self.sample_step_s = Gauge(
            "perfusion_sample_step_seconds",
            "Time of a denoising step of one candidate while the denoiser works, of the last seconds of work; "
            "0 before it is known.",
            registry=registry,
        )
        self.refused = Counter(
            "perfusion_rounds_refused_total",
            "Rounds that were not admitted: no place, or no time before their deadline.",
            ["why"],
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
