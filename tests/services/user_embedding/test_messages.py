"""What is said to clients is what is kept."""

from datetime import UTC, datetime

import numpy as np
import pytest

from services.user_embedding.messages import embedding_message, feature_message, profile_message
from services.user_embedding.profiles import StoredProfile, UserEmbedding, UserVectors, Value
from services.user_embedding.requests import value_of


@pytest.mark.parametrize("value", ["luxury", ("women", "men"), (), 3.5])
def test_a_value_is_read_back_as_it_was_said(value: Value) -> None:
    assert value_of(feature_message(value)) == value


def test_a_profile_says_when_it_was_written() -> None:
    message = profile_message(StoredProfile("u", {"style": "boho"}, 1_700_000_000_123_456))
    assert message.update_time.ToDatetime(UTC) == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert message.features["style"].string_value == "boho"


def test_an_embedding_says_everything_that_the_encoder_said() -> None:
    vectors = UserVectors(*(np.full(n, n, np.float32) for n in (1, 2, 3, 4)))
    message = embedding_message(UserEmbedding("u", 7, vectors, ("style",), StoredProfile("u", {}, 0)))
    assert (message.user_id, message.release, message.unknown_features) == ("u", 7, ["style"])
    said = (message.reward_text_user, message.reward_image_user, message.generator_user, message.favours)
    assert said == ([1], [2, 2], [3, 3, 3], [4, 4, 4, 4])
