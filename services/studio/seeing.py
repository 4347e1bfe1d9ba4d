"""What the shop's viewers see and open, for the platform's figures: noted at once, sent a little later.

A viewer counts once an hour for an item, a place and a kind: the event's id is made of them, and consumers drop ids
that were there before. What cannot be sent is kept for a while, and then lost, and counted. It knows no HTTP.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import NAMESPACE_OID, uuid5

from perfusion.v1.events_pb2 import SHOP_EVENT_KIND_CLICK, SHOP_EVENT_KIND_IMPRESSION, ShopEvent, ShopEventKind
from perfusion.v1.presale_pb2 import Presale

from services.runtime.clock import Clock, timestamp
from services.runtime.errors import RetryableError
from services.studio.metrics import StudioMetrics
from services.studio.ports import Items

SEND_S = 1.0
MOST_WAITING = 10_000
MOST_AT_ONCE = 500
_HOUR_US = 3_600_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sight:
    """Where a viewer meets an item: `position` is its place there, from 1; 0 where there is none."""

    viewer_hash: str
    surface: str
    position: int = 0


class Sightings:
    """Those that wait; somebody calls `send` now and then."""

    def __init__(self, items: Items, clock: Clock, metrics: StudioMetrics, most: int = MOST_WAITING) -> None:
        self._items = items
        self._clock = clock
        self._metrics = metrics
        self._most = most
        self._waiting: deque[ShopEvent] = deque()

    def shown(self, presale: Presale, sight: Sight) -> None:
        """An item was shown."""
        self._note(presale, sight, SHOP_EVENT_KIND_IMPRESSION)

    def opened(self, presale: Presale, sight: Sight) -> None:
        """An item was opened."""
        self._note(presale, sight, SHOP_EVENT_KIND_CLICK)

    def _note(self, presale: Presale, sight: Sight, kind: ShopEventKind.ValueType) -> None:
        now_us = self._clock()
        named = f"{sight.viewer_hash}:{presale.presale_id}:{kind}:{sight.surface}:{now_us // _HOUR_US}"
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self._metrics.lost_sights.inc()
        self._waiting.append(
            ShopEvent(
                event_id=str(uuid5(NAMESPACE_OID, named)),
                kind=kind,
                presale_id=presale.presale_id,
                user_id=presale.user_id,
                group_id=presale.terms.group_id,
                image_id=presale.terms.image_id,
                surface=sight.surface,
                position=sight.position,
                viewer_hash=sight.viewer_hash,
                event_time=timestamp(now_us),
                item_create_time=presale.open_time,
            )
        )

    async def send(self) -> None:
        """All that waits, a merchant's after another's.

        Raises:
            RetryableError: it could not all be sent, and waits on.
        """
        left = _batches(self._waiting)
        self._waiting.clear()
        try:
            while left:
                await self._send(left[0])
                left.pop(0)
        finally:
            self._keep([event for batch in left for event in batch])

    async def _send(self, events: Sequence[ShopEvent]) -> None:
        try:
            await self._items.record(events[0].user_id, events)
        except RetryableError:
            raise
        except Exception:  # the shop goes on without its figures
            _log.exception("what the shop saw is lost")
            self._metrics.lost_sights.inc(len(events))

    def _keep(self, events: Sequence[ShopEvent]) -> None:
        """For the next time, as far as there is room, the latest."""
        room = max(0, self._most - len(self._waiting))
        kept = events[max(0, len(events) - room) :]
        self._waiting.extendleft(reversed(kept))
        self._metrics.lost_sights.inc(len(events) - len(kept))


def _batches(waiting: Iterable[ShopEvent]) -> list[Sequence[ShopEvent]]:
    """As they are sent: each of one merchant."""
    found: list[Sequence[ShopEvent]] = []
    for _, of_one in groupby(sorted(waiting, key=lambda event: event.user_id), lambda event: event.user_id):
        events = list(of_one)
        found += [events[start : start + MOST_AT_ONCE] for start in range(0, len(events), MOST_AT_ONCE)]
    return found
