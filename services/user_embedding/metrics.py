"""Prometheus metrics of this service alone: profile features that a release does not know, and the picks it reads."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.feature_schema import FeatureSchema

OTHER = "other"  # every feature that is not the schema's: names that clients once chose must not become labels


class ProfileMetrics:
    """Counts features that are encoded as unknown."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.unknown = Counter(
            "perfusion_unknown_profile_features_total",
            "Features of stored profiles that an embedding read as unknown, by the schema's name or other.",
            ["feature"],
            registry=registry,
        )

    def count_unknown(self, names: Iterable[str], schema: FeatureSchema) -> None:
        """Counts each name that an embedding of this schema encoded as unknown."""
        known = {feature.name for feature in schema.features}
        for name in names:
            self.unknown.labels(name if name in known else OTHER).inc()


class HistoryMetrics:
    """How far the histories are behind the picks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.reading = Gauge(
            "perfusion_history_reading", "1 while Kafka and the database take turns, else 0.", registry=registry
        )
        self.lag = Gauge(
            "perfusion_history_lag_records", "Records of a topic that are not read yet.", ["topic"], registry=registry
        )
        self.records = Counter(
            "perfusion_history_records_total",
            "Records read, by outcome: kept, told nothing, poison.",
            ["topic", "outcome"],
            registry=registry,
        )
        self.lost = Counter(
            "perfusion_history_lost_records_total", "Records that ended unread.", ["topic"], registry=registry
        )
        self.delay_s = Histogram(
            "perfusion_history_delay_seconds",
            "From the sending of an event until favours follow it, seconds.",
            ["topic"],
            buckets=(0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 10, 30, 60, 600),
            registry=registry,
        )
