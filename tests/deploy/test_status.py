"""What `make status` says of a service that does not serve all its methods."""

import asyncio
from pathlib import Path

from deploy.local.parts import unserved
from services.user_embedding.__main__ import build
from services.user_embedding.settings import Settings
from tests.services.fake_models import FakeModels
from tests.services.fake_records import FakeRecords
from tests.services.market import write_release
from tests.services.running import LOCAL, running


async def test_it_names_the_methods_and_what_they_miss(tmp_path: Path) -> None:
    write_release(tmp_path, 1)
    models = FakeModels()
    models.down = True
    settings = Settings(database_url=f"sqlite:///{tmp_path}/profiles.sqlite", model_repository=tmp_path, **LOCAL)
    server = build(settings, models, FakeRecords())
    async with running(server):
        await server.poll_health()
        said = await asyncio.to_thread(unserved, server.metrics_port)
    assert said == "serving 2 of 4 methods, not GetUserEmbedding, BatchGetUserEmbeddings: triton"


def test_one_that_does_not_answer_is_not_serving() -> None:
    assert unserved(1) == "not serving"
