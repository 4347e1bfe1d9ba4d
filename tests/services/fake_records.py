"""Kafka's records in memory: topics that a test writes to, read as the service reads Kafka."""

import asyncio
from collections.abc import Mapping, Sequence

from contract.topics import Partition
from services.runtime.errors import Unavailable
from services.runtime.records import Bounds, Offsets, Record, Records


class FakeRecords(Records):
    """Partitions with records; `begins` are the first offsets that can still be read."""

    def __init__(self, *partitions: Partition) -> None:
        self.logs: dict[Partition, list[Record]] = {partition: [] for partition in partitions}
        self.begins: dict[Partition, int] = dict.fromkeys(partitions, 0)
        self.answers = True
        self._next: dict[Partition, int] = {}

    def _check(self) -> None:
        if not self.answers:
            raise Unavailable("kafka")

    async def bounds(self) -> Mapping[Partition, Bounds]:
        self._check()
        return {p: Bounds(self.begins[p], len(log)) for p, log in self.logs.items()}

    async def start(self, offsets: Offsets) -> None:
        self._check()
        self._next = dict(offsets)

    async def read(self) -> tuple[Sequence[Record], Offsets]:
        self._check()
        found = [record for p, offset in self._next.items() for record in self.logs[p][offset:]]
        self._next = {p: max(offset, len(self.logs[p])) for p, offset in self._next.items()}
        await asyncio.sleep(0.01)
        return found, dict(self._next)

    async def ends(self) -> Offsets:
        self._check()
        return {p: len(self.logs[p]) for p in self._next}

    async def close(self) -> None:
        pass
