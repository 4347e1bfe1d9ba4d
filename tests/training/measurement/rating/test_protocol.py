"""What is fixed before: the six aspects of the paper, and numbers within their bounds."""

import pytest

from training.measurement.errors import MeasurementError
from training.measurement.rating.protocol import ASPECTS, NAMES, SCALE, Protocol


def test_a_protocol_survives_its_file() -> None:
    protocol = Protocol(raters_per_picture=2, repeat_share=0.1)
    assert Protocol.from_json(protocol.to_json()) == protocol


def test_every_aspect_says_what_each_score_means() -> None:
    assert len(ASPECTS) == 6
    assert all(len(aspect.anchors) == len(SCALE) and aspect.question.endswith("?") for aspect in ASPECTS)


@pytest.mark.parametrize(
    ("name", "value"), [("repeat_share", 0.2), ("repeat_share", 0.01), ("raters_per_picture", 0), ("size_px", 32)]
)
def test_numbers_beyond_their_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(MeasurementError, match=name.replace("_", " ")):
        Protocol(**{name: value})


def test_another_list_of_aspects_is_refused() -> None:
    told = Protocol().to_json()
    told["aspects"] = told["aspects"][:5]
    with pytest.raises(MeasurementError, match=NAMES[5]):
        Protocol.from_json(told)
