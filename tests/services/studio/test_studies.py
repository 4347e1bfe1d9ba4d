"""A design as its folder has it, and which task is open."""

from pathlib import Path
from typing import Any

import pytest

from services.studio.asking import USUAL
from services.studio.studies import CORRECTABLE, DesignRefused, Task, current, is_turning, may_answer, read_design
from tests.services.studio.raters import PNG, design, png, write
from training.measurement.rating.designing import design_digest
from training.measurement.rating.protocol import ASPECTS, ORIGIN_QUESTION, Protocol


def test_a_design_is_read_with_its_pictures(tmp_path: Path) -> None:
    content = design()
    loaded = read_design(write(tmp_path / "a", content))
    assert loaded.design.design_id == content["design_id"]
    assert loaded.sha256 == design_digest(content)
    assert loaded.pictures == {name: png(name) for name in content["pictures"]}


def test_the_usual_questions_are_those_of_the_protocol() -> None:
    asked = [text for aspect in ASPECTS for text in (aspect.question, *aspect.anchors)]
    assert [*asked, ORIGIN_QUESTION] == list(USUAL)


def test_the_protocol_that_is_written_is_read(tmp_path: Path) -> None:
    content = design() | {"protocol": Protocol().to_json()}
    assert read_design(write(tmp_path / "a", content)).design.protocol.min_dwell_ms == Protocol().min_dwell_ms


@pytest.mark.parametrize("place", ["key.json", "pictures/key.json"])
def test_a_folder_with_the_key_is_refused(tmp_path: Path, place: str) -> None:
    folder = write(tmp_path / "a", design())
    (folder / place).write_text("{}")
    with pytest.raises(DesignRefused, match="says how each picture was made"):
        read_design(folder)


def test_a_picture_that_is_another_is_refused(tmp_path: Path) -> None:
    content = design()
    folder = write(tmp_path / "a", content)
    name = next(iter(content["pictures"]))
    (folder / "pictures" / f"{name}.png").write_bytes(PNG + b"another")
    with pytest.raises(DesignRefused, match="SHA-256 differs"):
        read_design(folder)
    (folder / "pictures" / f"{name}.png").unlink()
    with pytest.raises(DesignRefused, match="No such file"):
        read_design(folder)


def test_a_picture_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    content = design()
    name = next(iter(content["pictures"]))
    (tmp_path / "outside.png").write_bytes(png(name))
    content["pictures"][name]["file"] = "../outside.png"
    with pytest.raises(DesignRefused, match="outside of the design"):
        read_design(write(tmp_path / "a", content))


def _method(content: dict[str, Any]) -> None:
    next(iter(content["pictures"].values()))["method"] = "human"


def _repeat(content: dict[str, Any]) -> None:
    content["raters"][0]["tasks"][0]["repeat_of"] = "x"


def _kind(content: dict[str, Any]) -> None:
    content["raters"][0]["tasks"][0]["kind"] = "gold"


def _lost(content: dict[str, Any]) -> None:
    content["raters"][0]["tasks"][0]["picture"] = "nowhere"


def _twice(content: dict[str, Any]) -> None:
    content["raters"][1]["tasks"][0]["task_id"] = content["raters"][0]["tasks"][0]["task_id"]


def _rater_twice(content: dict[str, Any]) -> None:
    content["raters"][1]["rater_id"] = content["raters"][0]["rater_id"]


def _early(content: dict[str, Any]) -> None:
    content["raters"][0]["tasks"].reverse()


def _scale(content: dict[str, Any]) -> None:
    content["protocol"]["scale"] = [2, 1, 0]


def _format(content: dict[str, Any]) -> None:
    content["format"] = "perfusion-rating-key/1"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_method, "pictures.*method: Extra inputs"),
        (_repeat, "raters.0.tasks.0.repeat_of: Extra inputs"),
        (_kind, "raters.0.tasks.0.kind: "),
        (_lost, "shows the picture nowhere"),
        (_twice, "a task occurs twice"),
        (_rater_twice, "a rater occurs twice"),
        (_early, "before all are rated"),
        (_scale, "the scale must be"),
        (_format, "format: "),
    ],
)
def test_what_a_design_may_not_say(tmp_path: Path, change: Any, says: str) -> None:
    content = design()
    change(content)
    with pytest.raises(DesignRefused, match=says):
        read_design(write(tmp_path / "a", content))


def test_what_is_no_design_is_refused(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[]", "[" * 100_000, "\udcff")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "design.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(DesignRefused):
            read_design(folder)
    with pytest.raises(DesignRefused, match="No such file"):
        read_design(tmp_path / "nowhere")


def tasks(answered: int, ratings: int = 8, origins: int = 3, shown: int = 0) -> list[Task]:
    """So many are answered, and so many of the last questions were shown."""
    kinds = ["rate"] * ratings + ["origin"] * origins
    return [
        Task(n, f"t{n}", kind, "p", 0 < n - ratings <= shown, 0, {"a": 1} if n <= answered else None)
        for n, kind in enumerate(kinds, 1)
    ]


def test_the_next_task_and_the_last_few_are_open() -> None:
    of = tasks(answered=6)
    assert [number for number in range(1, 12) if may_answer(of, number)] == [2, 3, 4, 5, 6, 7]
    assert CORRECTABLE == 5
    assert (now := current(of)) is not None and now.number == 7


def test_no_rating_changes_once_it_was_asked_who_made_a_picture() -> None:
    before, after = tasks(answered=8), tasks(answered=8, shown=1)
    assert is_turning(before) and not is_turning(after)
    assert [number for number in range(1, 12) if may_answer(before, number)] == [4, 5, 6, 7, 8, 9]
    assert [number for number in range(1, 12) if may_answer(after, number)] == [9]
    done = tasks(answered=11, shown=3)
    assert [number for number in range(1, 12) if may_answer(done, number)] == [9, 10, 11]
    assert current(done) is None and not is_turning(done)
