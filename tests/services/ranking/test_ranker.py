"""Everything that a ranking asks is of one release and one user."""

import numpy as np
from numpy.typing import NDArray

from contract.release import Release
from services.ranking.ports import RewardModel, RewardUser, Users
from services.ranking.ranker import Ranker
from tests.services.market import LOGIT_SCALE, release_of

USER = RewardUser(text=np.ones(4, np.float32), image=np.zeros(4, np.float32))


class OneUser(Users):
    async def of_release(self, user_id: str, release: Release) -> RewardUser:
        assert (user_id, release.number) == ("u", 3)
        return USER

    async def check(self) -> None:
        pass


class ByBrightness(RewardModel):
    """A picture lies near every prompt by how bright it is."""

    async def text(self, release: Release, prompt: str, user: RewardUser) -> NDArray[np.float32]:
        assert (release.number, prompt) == (3, "dress") and user is USER
        return np.asarray([1, 0], np.float32)

    def unread(self, release: Release, prompt: str) -> tuple[str, ...]:
        return ()

    async def images(self, release: Release, images: NDArray[np.uint8], user: RewardUser) -> NDArray[np.float32]:
        assert release.number == 3 and user is USER
        bright = images.mean((1, 2, 3)) / 255
        return np.stack([bright, np.sqrt(1 - bright**2)], axis=1).astype(np.float32)


async def test_pictures_are_scored_and_ranked_in_the_order_given() -> None:
    images = np.stack([np.full((2, 2, 3), grey, np.uint8) for grey in (51, 255, 0)])
    scores = await Ranker(OneUser(), ByBrightness()).rank(release_of(3), "u", "dress", images)
    np.testing.assert_allclose([score.score for score in scores], [0.2 * LOGIT_SCALE, LOGIT_SCALE, 0], atol=1e-4)
    assert [score.rank for score in scores] == [2, 1, 3]
