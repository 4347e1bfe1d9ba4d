"""The service's own metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.items.payments import Operation


class ItemsMetrics:
    """What the provider of payments was asked, and what waits for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._asked = Counter(
            "perfusion_payment_operations_total",
            "Calls of the provider of payments, by what came of them: done, refused, unknown.",
            ["operation", "outcome"],
            registry=registry,
        )
        self.waiting = Gauge(
            "perfusion_payment_operations_waiting",
            "Operations that the provider has not answered, due or not.",
            registry=registry,
        )
        self.oldest_s = Gauge(
            "perfusion_payment_oldest_seconds",
            "How long the operation that is due longest has been due, seconds; 0 when none is.",
            registry=registry,
        )
        self.stuck = Gauge(
            "perfusion_payment_stuck_orders",
            "Orders whose money the provider keeps refusing to move: a person has to look.",
            registry=registry,
        )
        self.faults = Counter(
            "perfusion_settling_faults_total",
            "Presales, orders and operations with which the background failed; the log says why.",
            registry=registry,
        )
        self.unbalanced = Gauge(
            "perfusion_ledger_unbalanced",
            "Currencies in which the ledger's entries do not sum to zero: never anything but 0.",
            registry=registry,
        )

    def asked(self, operation: Operation, outcome: str) -> None:
        """One call has ended."""
        self._asked.labels(operation.value, outcome).inc()
