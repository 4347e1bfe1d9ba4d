"""Rating: what a rater sees and may do, what is recorded once, and the command that runs a study."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.runtime.database import Database
from services.runtime.errors import AlreadyExists, NotFound
from services.studio import rating
from services.studio.adapters.studies import SqlStudies
from services.studio.adapters.tables import SCHEMA
from services.studio.studies import key_of, read_design
from tests.services.items.market import Market
from tests.services.running import database_threads_ended
from tests.services.studio.raters import ANNA, ASPECTS, BO, GOOD, RaterAt, Time, design, load, png, write
from tests.services.studio.selling import Street, hidden, words

STUDY = "0123456789abcdef"


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest_asyncio.fixture
async def street(tmp_path: Path, clock: Time) -> AsyncIterator[Street]:
    """A studio with the study loaded."""
    market = Market(f"sqlite:///{tmp_path / 'items.sqlite'}")
    database = Database(f"sqlite:///{tmp_path / 'studio.sqlite'}", SCHEMA, timeout_s=20)
    found = Street(market, database, tmp_path / "token", clock=clock)
    await load(found, write(tmp_path / "design", design()))
    yield found
    await market.database.close()
    await database.close()
    await database_threads_ended()


@pytest_asyncio.fixture
async def anna(street: Street, clock: Time) -> RaterAt:
    """Who has read the protocol."""
    at = RaterAt(street, clock)
    await at.begins()
    return at


async def lines(street: Street) -> list[Any]:
    return list(await street.studio.studies.lines(STUDY))


async def test_the_protocol_is_said_once_and_does_not_say_what_is_asked_last(street: Street, clock: Time) -> None:
    at = RaterAt(street, clock)
    first = await at.get()
    assert "You rate 7 pictures" in words(first) and "4.0 seconds" in words(first)
    assert not re.search(r"\bAI\b|human", words(first))
    assert (await at.get("/1")).url.path == at.home  # not before it is read
    assert (await at.begins()).status_code == 303
    assert (await at.get()).url.path == f"{at.home}/1"
    assert "Picture 1 of 7" in words(await at.get())


async def test_nothing_on_the_page_tells_which_picture_comes_again(anna: RaterAt) -> None:
    pages = [(await anna.get("/1"))]
    assert (await anna.answers(1)).status_code == 303
    for number in range(2, 7):
        assert (await anna.answers(number)).status_code == 303
    pages.append(await anna.get("/7"))  # its picture is that of the first
    plain = [
        re.sub(
            r"[0-9a-f-]{36}|Picture \d of 7|/rate/[^\"]*|value=\"\d\"|\d of 7 answered",
            "",
            page.text.partition('<div class="actions">')[0],
        )
        for page in pages
    ]
    assert plain[0] == plain[1]
    name = next(iter(design()["pictures"]))
    answers = [await anna.client.get(re.findall(r'src="(/rate[^"]+)"', page.text)[0]) for page in pages]
    assert answers[0].content == answers[1].content == png(name)
    for page in (*pages, *answers):
        said = str(page.headers) + str(page.url) + (page.text if "html" in page.headers["content-type"] else "")
        assert not re.search(rf"{name}|anna0|repeat|gold|method(?!=.post)|etag|last-modified", said)
        assert page.headers["cache-control"] == "private, no-store"


async def test_a_form_sent_twice_is_one_answer_and_a_correction_is_another(anna: RaterAt, street: Street) -> None:
    form = await anna.looks() | GOOD
    for _ in range(3):
        assert (await anna.sends("/1", form)).headers["location"] == anna.home
    assert [line["answers"] for line in await lines(street)] == [dict.fromkeys(ASPECTS, 2)]
    assert (await anna.get()).url.path == f"{anna.home}/2"
    page = await anna.get("/1")
    assert page.text.count(" checked") == 2
    assert (
        await anna.answers(1, {"aspect-color_coordination": "none"} | {"aspect-material_quality": "0"})
    ).status_code == 303
    first, second = await lines(street)
    assert second["answers"] == {ASPECTS[0]: 0, ASPECTS[1]: None}
    assert second["time"] > first["time"] and second["dwell_ms"] > first["dwell_ms"]
    assert first["task_id"] == second["task_id"] == "anna01"


async def test_a_task_goes_on_at_another_device(anna: RaterAt, street: Street, clock: Time) -> None:
    await anna.answers(1)
    assert (await RaterAt(street, clock).get()).url.path == f"{anna.home}/2"


async def test_only_the_server_s_clock_says_that_it_was_long_enough(anna: RaterAt, street: Street) -> None:
    form = await anna.looks(seconds=2)
    answer = await anna.sends("/1", form | GOOD | {"dwell_ms": "900000"})
    assert answer.status_code == 400 and "a little longer" in words(answer)
    assert answer.text.count(" checked") == 2  # what was chosen stays
    assert await lines(street) == []
    assert 'data-least="2000"' in answer.text  # what was seen counts
    form = hidden(answer.text) | GOOD
    await anna.client.get(f"{anna.home}/1/{form['view_id']}.png")
    anna.clock.passes(2.5)
    assert (await anna.sends("/1", form)).status_code == 303
    assert [line["dwell_ms"] for line in await lines(street)] == [4_500]


async def test_only_time_in_which_somebody_looked_counts(anna: RaterAt, street: Street) -> None:
    form = await anna.looks(seconds=3600)
    assert (await anna.sends("/1/seen", form | {"dwell_ms": "1500"})).status_code == 204
    assert (await anna.sends("/1/seen", form | {"dwell_ms": "x"})).status_code == 204
    again = await anna.looks(seconds=60)  # the page was loaded again
    assert (await anna.sends("/1", again | GOOD | {"dwell_ms": "3000"})).status_code == 303
    assert [line["dwell_ms"] for line in await lines(street)] == [4_500]


async def test_two_open_pages_do_not_count_twice(anna: RaterAt) -> None:
    first, second = await anna.looks(seconds=0), await anna.looks(seconds=3)
    await anna.sends("/1/seen", first | {"dwell_ms": "3000"})
    assert (await anna.sends("/1", second | GOOD | {"dwell_ms": "3000"})).status_code == 400


async def test_a_picture_that_was_not_fetched_was_not_seen(anna: RaterAt, street: Street) -> None:
    form = hidden((await anna.get()).text)
    anna.clock.passes(60)
    answer = await anna.sends("/1", form | GOOD)
    assert answer.status_code == 400 and "was not shown" in words(answer)
    assert await lines(street) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"aspect-color_coordination": ""}, "aspect-color_coordination"),
        ({"aspect-color_coordination": "3"}, "aspect-color_coordination"),
        ({"aspect-material_quality": "２"}, "aspect-material_quality"),
    ],
)
async def test_what_is_wrong_is_told_at_its_question(
    anna: RaterAt, street: Street, changes: dict[str, str], field: str
) -> None:
    answer = await anna.answers(1, GOOD | changes)
    assert answer.status_code == 400
    assert f'id="{field}-problem"' in answer.text and answer.text.count('role="alert"') == 1
    assert await lines(street) == []


@pytest.mark.parametrize(
    "more", [{"aspect-nothing": "1"}, {"origin": "ai"}, {"dwell_ms": "-1"}, {"dwell_ms": "9" * 40}]
)
async def test_what_was_not_asked_is_refused(anna: RaterAt, street: Street, more: dict[str, str]) -> None:
    answer = await anna.answers(1, GOOD | more)
    assert answer.status_code == 400 and 'role="alert"' in answer.text
    assert await lines(street) == []


async def test_nobody_else_s_task_and_no_later_one_is_reached(anna: RaterAt, street: Street, clock: Time) -> None:
    bo = RaterAt(street, clock, BO)
    await bo.begins()
    theirs = await bo.looks()
    view = theirs["view_id"]
    assert (await anna.client.get(f"{anna.home}/1/{view}.png")).status_code == 404
    own = await anna.looks()
    assert (await anna.sends("/1", own | GOOD | {"view_id": view})).status_code == 400
    assert (await anna.sends("/1", theirs | GOOD)).status_code == 403  # another link's form
    assert (await anna.get("/2")).url.path == f"{anna.home}/1"  # not its turn
    assert (await anna.sends("/2", own | GOOD)).status_code == 303
    assert await lines(street) == []
    for path in ("/99", "/0", "/x", "/1/x.png"):
        assert (await anna.get(path)).status_code == 404
    stranger = RaterAt(street, clock, "nobody-has-this-link")
    assert (await stranger.get()).status_code == 404
    assert (await stranger.get("/1")).status_code == 404


async def test_forms_of_elsewhere_are_refused(anna: RaterAt, street: Street) -> None:
    form = await anna.looks() | GOOD
    assert (await anna.sends("/1", form, origin="https://evil.example")).status_code == 403
    assert (await anna.sends("/1", form | {"form_token": "x"})).status_code == 403
    assert (await anna.sends("/1", form | {"x": "y" * 70_000})).status_code == 413
    assert await lines(street) == []


async def test_who_made_it_is_asked_last_and_ends_what_can_be_changed(anna: RaterAt, street: Street) -> None:
    for number in range(1, 8):
        assert (await anna.answers(number)).status_code == 303
    turn = await anna.get()
    assert "All pictures are rated" in words(turn) and "Who made it" not in words(turn)
    assert (await anna.answers(7)).status_code == 303  # still
    asked = await anna.get("/8")
    assert "Who made it?" in words(asked) and "Question 1 of 2" in words(asked)
    assert (await anna.get("/7")).url.path == f"{anna.home}/8"
    form = await anna.looks(seconds=0.1)  # no shortest time: it is seen again
    assert (await anna.sends("/8", form | {"origin": "unsure"})).status_code == 303
    assert (await anna.answers(9, {"origin": "ai"})).status_code == 303
    done = await anna.get()
    assert "Thank you" in words(done)
    assert f"{anna.home}/9" in done.text
    assert [line["answers"] for line in (await lines(street))[-2:]] == [{"origin": "unsure"}, {"origin": "ai"}]
    assert await street.studio.studies.progress(STUDY) == {"anna": (9, 9), "bo": (0, 9)}


async def test_a_closed_study_says_so_and_takes_nothing(anna: RaterAt, street: Street) -> None:
    form = await anna.looks() | GOOD
    await street.studio.studies.close(STUDY)
    for answer in (await anna.get(), await anna.get("/1"), await anna.sends("/1", form)):
        assert answer.status_code == 410 and "This study is closed" in words(answer)
    assert (await anna.client.get(f"{anna.home}/1/{form['view_id']}.png")).status_code == 404
    assert await lines(street) == []


async def test_a_design_s_own_words_are_shown_as_they_are_and_known_ones_translated(anna: RaterAt) -> None:
    page = await anna.client.get(f"{anna.home}/1", headers={"accept-language": "zh"})
    assert "A question of &lt;this&gt; study?" in page.text and "poor: {so}" in page.text
    assert "颜色搭配协调吗？" in page.text and 'lang="zh"' in page.text


async def test_nothing_of_a_merchant_is_on_the_page(street: Street, anna: RaterAt) -> None:
    merchant = await street.merchant()
    page = await merchant.get(f"{anna.home}/1")
    assert "Log out" not in page.text and "/history" not in page.text


async def test_studies_on_both_databases(database: Database, tmp_path: Path) -> None:
    clock = Time()
    studies = SqlStudies(database, clock)
    loaded = read_design(write(tmp_path / "design", design()))
    keys = {"anna": key_of(ANNA), "bo": key_of(BO)}
    await studies.load(loaded, keys)
    with pytest.raises(AlreadyExists):
        await studies.load(loaded, keys)
    assert await studies.rater(key_of("other")) is None
    await studies.renew(STUDY, "anna", key_of("other"))
    assert await studies.rater(key_of(ANNA)) is None
    rater = await studies.rater(key_of("other"))
    assert rater is not None and rater.rater_id == "anna" and not rater.has_begun
    view = await studies.view(rater, 1)
    assert view is not None and await studies.picture(rater, 1, view) is not None
    clock.passes(5)
    for _ in range(2):
        assert (await studies.answer(rater, 1, view, {ASPECTS[0]: 1}, None)).value == "taken"
    clock.passes(-60)  # another replica's clock: the later answer is still the later one
    for _ in range(2):
        assert (await studies.answer(rater, 1, view, {ASPECTS[0]: 0}, None)).value in ("taken", "too soon")
    told = await studies.lines(STUDY)
    assert [line["time"] for line in told] == sorted(line["time"] for line in told)
    assert (await studies.progress(STUDY))["anna"] == (1, 9)
    rows = await studies.delete(STUDY)
    assert rows["studio_study_tasks"] == 18 and rows["studio_study_pictures"] == 6
    for call in (studies.lines, studies.progress, studies.close, studies.delete):
        with pytest.raises(NotFound):
            await call(STUDY)


def test_the_command_runs_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", f"sqlite:///{tmp_path}/studio.sqlite")
    monkeypatch.setenv("PERFUSION_PUBLIC_URL", "https://studio.example")
    folder = write(tmp_path / "design", design())
    said, *links = rating.main(["load", str(folder)])
    assert read_design(folder).sha256 in said
    assert [re.fullmatch(r"(anna|bo)\thttps://studio.example/rate/[\w-]{32}", link) is not None for link in links] == [
        True
    ] * 2
    stored = (tmp_path / "studio.sqlite").read_bytes()
    assert not any(link.rpartition("/")[2].encode() in stored for link in links)
    with pytest.raises(SystemExit, match="is loaded"):
        rating.main(["load", str(folder)])
    assert list(rating.main(["progress", STUDY])) == ["anna\t0 of 9", "bo\t0 of 9"]
    (renewed,) = rating.main(["renew", STUDY, "anna"])
    assert renewed not in links
    assert list(rating.main(["close", STUDY])) == [f"study {STUDY} is closed"] == list(rating.main(["close", STUDY]))
    assert list(rating.main(["export", STUDY])) == []
    (rows,) = rating.main(["delete", STUDY])
    assert json.loads(rows)["studio_studies"] == 1
    with pytest.raises(SystemExit, match="there is no study"):
        rating.main(["export", STUDY])
    (folder / "key.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"key\.json says"):
        rating.main(["load", str(folder)])
