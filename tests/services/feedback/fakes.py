"""What surrounds the feedback service in its tests: a generation service that knows one group, and Kafka."""

import asyncio

from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.group_pb2 import Candidate, Group

from services.runtime.errors import NotFound, Unavailable
from services.runtime.events import Event, Events

GROUP_ID = "6f1d9b1e-0000-4000-8000-00000000000a"
OWNER = "merchant"
RELEASE = 7
IMAGE_IDS = [f"6f1d9b1e-0000-4000-8000-{i:012x}" for i in range(1, 6)]  # best first


class OneGroup:
    """GenerationService's GetGroup. `hold`, when set, keeps the caller waiting."""

    Generate = ListGroups = SuggestPhrases = GetReleaseInfo = None  # never asked of it

    def __init__(self) -> None:
        self.down = False
        self.hold: asyncio.Event | None = None

    async def GetGroup(self, request: pb.GetGroupRequest, context: object) -> pb.GetGroupResponse:
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise Unavailable("database")
        assert request.view == pb.GROUP_VIEW_BASIC, "feedback compares ids and needs no pictures"
        if request.group_id != GROUP_ID:
            raise NotFound("group_id: there is no such group", field="group_id")
        candidates = [Candidate(image_id=image_id, rank=rank) for rank, image_id in enumerate(IMAGE_IDS, 1)]
        return pb.GetGroupResponse(
            group=Group(group_id=GROUP_ID, user_id=OWNER, release=RELEASE, candidates=candidates)
        )


class FakeKafka(Events):
    """`down` takes nothing; `deaf` takes the event and loses the acknowledgement on its way back."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.down = False
        self.deaf = False

    async def publish(self, event: Event) -> None:
        if self.down:
            raise Unavailable("kafka")
        self.taken.append(event)
        if self.deaf:
            raise Unavailable("kafka", "did not acknowledge the event")

    async def check(self) -> None:
        if self.down:
            raise Unavailable("kafka")

    async def close(self) -> None:
        pass
