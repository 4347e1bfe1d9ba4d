"""Prometheus metrics of this service alone: profile features that a release does not know."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

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
