"""The page on which experts rate, in a real browser: the studio's own process, and a study made by its commands.

It needs none of the platform's other parts. What is asked here is what only a browser shows: keys, the time in which a
picture is in sight, reloading, a second click, and whatever comes over the network.
"""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from deploy.demo.browsing import PHONE, Person
from deploy.local.layout import ROOT, clean_environment, venv
from deploy.local.parts import CODE
from services.studio.asking import NOT_JUDGED, field_of
from tests.integration.conftest import Visit
from tests.services.items.providers import free_port
from training.measurement.rating.designing import write_design
from training.measurement.rating.items import Item
from training.measurement.rating.protocol import NAMES, Protocol

START_S = 60.0  # of a process, on a loaded machine
MIN_DWELL_MS = 600
RATERS = ("keys", "mouse", "clicks", "plain", "phone", "handy")
METHODS = ("armsubject", "armreference")
SECRETS = (*METHODS, "itemsecret", "categorysecret", "filesecret", "gold", "repeat", "release")
TELLING_HEADERS = {"etag", "last-modified"}  # by which the same picture is known again


@dataclass(frozen=True)
class Study:
    """A study in the studio, with whose link leads where."""

    design: dict[str, Any]
    paths: dict[str, str]  # by rater
    environment: dict[str, str]  # of the studio's commands

    def answers(self, rater: str) -> list[dict[str, Any]]:
        """What is stored of a rater, a line an answer."""
        said = command(self.environment, "export", self.design["design_id"])
        return [line for line in map(json.loads, said.splitlines()) if line["rater_id"] == rater]

    def task_ids(self, rater: str) -> list[str]:
        """In the rater's order."""
        [tasks] = [each["tasks"] for each in self.design["raters"] if each["rater_id"] == rater]
        return [task["task_id"] for task in tasks]


def command(environment: dict[str, str], *arguments: str) -> str:
    """What a command of the studio's says."""
    line = [str(venv("services") / "bin" / "python"), "-m", "services.studio.rating", *arguments]
    return subprocess.run(line, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def designed(folder: Path) -> dict[str, Any]:
    """Two sets of two methods and a gold picture; each rater rates all, and is asked of two who made them."""
    items = []
    for n in range(5):
        method, is_gold = METHODS[n % 2], n == 4
        path = folder / f"filesecret-{n}.png"
        Image.new("RGB", (64, 64), (50 * n, 90, 200 - 40 * n)).save(path)
        gold = {"model_realism": [0]} if is_gold else {}
        items.append(Item(f"itemsecret-{n}", f"categorysecret-{n // 2}", method, path, gold))
    protocol = Protocol(
        raters_per_picture=len(RATERS), repeat_share=0.1, min_dwell_ms=MIN_DWELL_MS, origin_pictures=2, size_px=64
    )
    write_design(items, RATERS, folder / "out", protocol, METHODS[1], 0, datetime.now(UTC))
    (folder / "out" / "key.json").rename(folder / "key.json")
    design: dict[str, Any] = json.loads((folder / "out" / "design.json").read_text())
    return design


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The studio runs, by itself, and the study is loaded."""
    folder = tmp_path_factory.mktemp("rating")
    design, port, metrics_port = designed(folder), free_port(), free_port()
    own = {
        "PYTHONPATH": CODE,
        "PERFUSION_HOST": "127.0.0.1",
        "PERFUSION_PORT": str(port),
        "PERFUSION_METRICS_PORT": str(metrics_port),
        "PERFUSION_PUBLIC_URL": f"http://localhost:{port}",
        "PERFUSION_CLEAR_TEXT": "true",
        "PERFUSION_DATABASE_URL": f"sqlite:///{folder / 'studio.sqlite'}",
        "PERFUSION_OIDC_ISSUER": "http://localhost:9",  # no rater logs in
        "PERFUSION_DRAIN_S": "1",
    }
    environment = clean_environment() | own
    with (folder / "log").open("wb") as log:
        studio = subprocess.Popen(
            [str(venv("services") / "bin" / "python"), "-m", "services.studio"],
            env=environment, cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        said = command(environment, "load", str(folder / "out"))
        links = dict(line.split("\t") for line in said.splitlines()[1:])
        ends = time.monotonic() + START_S
        while not _answers(f"http://localhost:{port}/shop/x"):
            assert studio.poll() is None and time.monotonic() < ends, (folder / "log").read_text()
            time.sleep(0.1)
        paths = {rater: link.removeprefix(own["PERFUSION_PUBLIC_URL"]) for rater, link in links.items()}
        yield Study(design, paths, environment)
    finally:
        studio.terminate()
        studio.wait(START_S)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def home(study: Study) -> str:
    return study.environment["PERFUSION_PUBLIC_URL"]


def begins(rater: Person, path: str) -> Page:
    """Reads the protocol; the first picture is on the page."""
    page = rater.goes_to(path)
    page.locator("main form button").click()
    expect(page.locator("[data-looked]")).to_have_js_property("naturalWidth", 64)
    return page


def at(page: Page, number: int) -> None:
    """The page comes to a task."""
    expect(page).to_have_url(re.compile(rf"/{number}$"))


def chooses(page: Page, values: dict[str, str]) -> None:
    """By mouse."""
    for field, value in values.items():
        page.locator(f'label.choice:has(input[name="{field}"][value="{value}"])').click()


def everywhere(value: str) -> dict[str, str]:
    return {field_of(name): value for name in NAMES}


def stores(page: Page, number: int) -> None:
    """By mouse, once the page lets them; the next task, or what follows, is shown."""
    expect(page.locator("[data-send]")).to_be_enabled()
    page.locator("[data-send]").click()
    expect(page).not_to_have_url(re.compile(rf"/{number}$"))


def test_by_keyboard_alone_and_a_reload_goes_on_where_it_was(study: Study, visit: Visit) -> None:
    rater = visit()
    page = begins(rater, study.paths["keys"])
    at(page, 1)
    page.locator("fieldset input").first.focus()
    for key in ("0", "1", "2"):  # each leads to the next question
        page.keyboard.press(key)
    page.keyboard.press("ArrowDown")  # from the first answer of the fourth question to its second one
    page.reload()
    at(page, 1)
    chosen = "all => all.filter(each => each.checked).map(each => each.value)"
    assert page.locator("fieldset input").evaluate_all(chosen) == ["0", "1", "2", "1"]
    page.locator("fieldset").nth(4).locator("input").first.focus()
    page.keyboard.press("9")  # is no score
    for _ in range(2):
        page.keyboard.press("2")
    expect(page.locator("[data-send]")).to_be_enabled()
    page.keyboard.press("Control+Enter")
    at(page, 2)
    page.goto(rater.home + study.paths["keys"])  # the link alone
    at(page, 2)
    assert page.locator("fieldset input:checked").count() == 0
    [line] = study.answers("keys")
    assert line["answers"] == dict(zip(NAMES, (0, 1, 2, 1, 2, 2), strict=True))
    assert (line["task_id"], line["dwell_ms"] >= MIN_DWELL_MS) == (study.task_ids("keys")[0], True)


def test_by_mouse_to_the_end_and_nothing_that_comes_tells_what_a_picture_is(study: Study, visit: Visit) -> None:
    rater, heard = visit(), list[tuple[str, dict[str, str], bytes]]()

    def hear(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        heard.append((answer.url, answer.headers, answer.body()))
        route.fulfill(response=answer)

    rater.context.route("**/rate/**", hear)  # all but the scripts and styles that every page has
    page = begins(rater, study.paths["mouse"])
    ids = study.task_ids("mouse")
    ratings = len(ids) - 2
    for number in range(1, ratings + 1):
        at(page, number)
        chooses(page, everywhere(str(number % 3)) | {field_of(NAMES[0]): NOT_JUDGED})
        stores(page, number)
    page.get_by_role("link", name="Go on").click()
    for number in range(ratings + 1, len(ids) + 1):
        at(page, number)
        chooses(page, {"origin": "unsure"})
        stores(page, number)
    expect(page.get_by_role("heading", name="Thank you: you have answered everything")).to_be_visible()
    rater.context.unroute_all(behavior="wait")
    answers = study.answers("mouse")
    assert [line["task_id"] for line in answers] == ids
    assert answers[1]["answers"] == dict(zip(NAMES, (None, 2, 2, 2, 2, 2), strict=True))

    shown = [url for url, _, _ in heard if url.endswith(".png")]
    assert len(shown) == len(set(shown)) == len(ids)  # no address comes twice, whatever the picture
    names = {*study.design["pictures"], *(task_id for name in RATERS for task_id in study.task_ids(name))}
    for url, headers, body in heard:
        told = f"{url} {headers}".lower().encode() + body.lower()
        assert [secret for secret in (*SECRETS, *names) if secret.encode() in told] == [], url
        assert not TELLING_HEADERS & headers.keys(), url


def test_a_second_click_is_no_second_answer_and_too_early_a_click_none(study: Study, visit: Visit) -> None:
    rater = visit()
    page = begins(rater, study.paths["clicks"])
    chooses(page, everywhere("2"))
    page.reload()
    form = page.locator("form.order")
    form.evaluate("form => { for (const _ of [1, 2]) form.requestSubmit(); }")  # before it was looked at long enough
    expect(page.locator("[data-wait]")).to_have_text("You may go on.")
    at(page, 1)
    sent = """form => Promise.all([1, 2].map(async () => (await fetch(form.action, {method: "POST",
        redirect: "manual", body: new URLSearchParams(new FormData(form))})).type))"""
    assert form.evaluate(sent) == ["opaqueredirect"] * 2  # both are led on to the next picture
    assert [line["answers"] for line in study.answers("clicks")] == [dict.fromkeys(NAMES, 2)]
    page.reload()
    at(page, 1)  # the answer that is stored, to be corrected
    page.get_by_role("link", name="Leave it as it is").click()
    at(page, 2)
    chooses(page, everywhere("1"))
    expect(page.locator("[data-send]")).to_be_enabled()
    page.locator("[data-send]").dblclick(no_wait_after=True)
    at(page, 3)
    assert len(study.answers("clicks")) == 2


def test_without_javascript(study: Study, visit: Visit) -> None:
    rater = visit(java_script_enabled=False)
    page = rater.goes_to(study.paths["plain"])
    page.locator("main form button").click()
    at(page, 1)
    chooses(page, everywhere("1"))
    page.locator("[data-send]").click()
    if page.locator('[role="alert"]').count():  # too early: what was chosen is still there
        expect(page.locator('[role="alert"]')).to_have_text("Look at the picture a little longer, and answer again.")
        time.sleep(MIN_DWELL_MS / 1000)
        page.locator("[data-send]").click()
    at(page, 2)
    [line] = study.answers("plain")
    assert line["answers"] == dict.fromkeys(NAMES, 1) and line["dwell_ms"] >= MIN_DWELL_MS


@pytest.mark.parametrize(("locale", "name", "begin"), [("en-US", "phone", "begin"), ("zh-CN", "handy", "开始")])
def test_every_page_of_it_can_be_heard_and_fits_a_phone(
    study: Study, visit: Visit, locale: str, name: str, begin: str
) -> None:
    rater = visit(locale=locale, viewport=PHONE)
    page = rater.goes_to(study.paths[name])
    expect(page.locator("main form button")).to_contain_text(begin)

    def is_good() -> None:
        assert page.locator("html").get_attribute("lang") == locale[:2]
        assert rater.serious() == [], page.url
        assert rater.width() <= 0, page.url

    is_good()
    begins(rater, study.paths[name])
    expect(page.locator("[data-send]")).to_be_enabled()  # what waits is left out by axe
    is_good()
    page.locator("form.order").evaluate("form => { form.noValidate = true; }")
    page.locator("[data-send]").click()
    expect(page.locator('[role="alert"]')).to_have_count(len(NAMES))
    is_good()
