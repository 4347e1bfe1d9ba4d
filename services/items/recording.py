"""Puts what the shop saw on Kafka, and waits for its acknowledgement. It knows no Kafka; nothing is stored here."""

from collections.abc import Sequence
from dataclasses import dataclass

from perfusion.v1.events_pb2 import ShopEvent

from contract.tracing import traceparent
from services.runtime.events import Event, Events, Refused


@dataclass(frozen=True)
class ShopEvents:
    """Impressions and clicks, each keyed by its item's merchant; consumers drop repeated event ids."""

    events: Events
    topic: str

    async def record(self, seen: Sequence[ShopEvent]) -> None:
        """Returns once Kafka has all of them.

        Raises:
            Unavailable: Kafka does not answer; those that it took will be sent again with the same ids.
        """
        trace = traceparent()
        sent = await self.events.publish_all([self._event(event, trace) for event in seen])
        for error in sent:
            if isinstance(error, Refused):
                raise RuntimeError("Kafka refuses an event of the shop") from error
            if error is not None:
                raise error

    def _event(self, event: ShopEvent, trace: str | None) -> Event:
        kind = event.DESCRIPTOR.full_name
        return Event(
            self.topic, event.user_id, event.event_id, kind, event.SerializeToString(deterministic=True), trace
        )
