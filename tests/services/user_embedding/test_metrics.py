"""Labels come from the schema alone, whatever clients once called their features."""

from prometheus_client import CollectorRegistry

from services.user_embedding.metrics import ProfileMetrics
from tests.services.market import SCHEMA


def test_unknown_features_are_counted_by_the_schemas_names_or_as_other() -> None:
    registry = CollectorRegistry()
    metrics = ProfileMetrics(registry)
    metrics.count_unknown(["style", "shoe size", "another"], SCHEMA)
    metrics.count_unknown(["style"], SCHEMA)

    def counted(feature: str) -> float | None:
        return registry.get_sample_value("perfusion_unknown_profile_features_total", {"feature": feature})

    assert (counted("style"), counted("other"), counted("shoe size")) == (2.0, 2.0, None)
