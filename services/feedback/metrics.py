"""Prometheus metrics of what only this service does: picks that came by imports."""

import grpc
from prometheus_client import CollectorRegistry, Counter

from services.feedback.picks import Feedback
from services.runtime.errors import ServiceError


class FeedbackMetrics:
    """The picks of imports by what became of them; those of SubmitFeedback are its calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._imported = Counter(
            "perfusion_imported_picks_total",
            "Picks of ImportFeedback that were answered, by gRPC status.",
            ["code"],
            registry=registry,
        )

    def count(self, outcome: Feedback | Exception) -> None:
        """One pick was answered."""
        if isinstance(outcome, Feedback):
            code = grpc.StatusCode.OK
        else:
            code = outcome.code if isinstance(outcome, ServiceError) else grpc.StatusCode.INTERNAL
        self._imported.labels(code.name).inc()
