"""A person at the merchant's page: a real Chromium, driven by Playwright, with an empty profile of its own."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ARGUMENTS = (
    "--no-sandbox",  # root's browser has none
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
)
PHONE = {"width": 360, "height": 740}
ROUND_MS = 90_000  # on a loaded machine


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's; the test is skipped where it is not installed."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed: `make chromium` does it (Debian, as root)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Person:
    """Somebody at a browser of their own."""

    def __init__(self, browser: Browser, home: str, **options: Any) -> None:
        self.home = home
        self.context: BrowserContext = browser.new_context(locale=options.pop("locale", "en-US"), **options)
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []  # what the page itself complains of
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: "Content Security Policy" in said.text and self.faults.append(said.text))

    def log_in(self, subject: str) -> "Person":
        """By the provider's own page."""
        self.page.goto(self.home)
        self.page.locator("main a.button").click()
        self.page.locator("input[name=sub]").fill(subject)
        self.page.get_by_role("button", name="Authorize").click()
        self.page.wait_for_url(f"{self.home}/**")
        return self

    def goes_to(self, path: str) -> Page:
        self.page.goto(self.home + path)
        return self.page

    def types(self, prompt: str) -> None:
        """Phrases, a comma behind each."""
        field = self.page.get_by_role("combobox").first
        field.click()
        field.press_sequentially(prompt + ",")

    def sets(self, **fields: str) -> None:
        """Fields of "More choices"."""
        self.page.locator("details.more").evaluate("each => each.open = true")
        for name, value in fields.items():
            self.page.locator(f"#{name}").fill(value)

    def draws(self, prompt: str, **fields: str) -> str:
        """Sends the form; returns the round's path."""
        self.goes_to("/")
        self.types(prompt)
        if fields:
            self.sets(**fields)
        self.page.locator("[data-send]").click()
        self.page.wait_for_url("**/rounds/*")
        return self.page.url.removeprefix(self.home)

    def waits_for_group(self) -> str:
        """The round's pictures are there; returns the group's path."""
        self.page.wait_for_url("**/groups/*", timeout=ROUND_MS)
        expect(self.page.locator("label.picture img").first).to_have_js_property("complete", True)
        return self.page.url.removeprefix(self.home)

    def status_of(self, path: str, method: str = "GET", **form: str) -> int:
        """What a request from this page is answered with, with the person's cookies."""
        fetched: int = self.page.evaluate(
            """async ([path, method, form]) => (await fetch(path, {method, redirect: "manual",
                body: method === "GET" ? undefined : new URLSearchParams(form)})).status""",
            [path, method, form],
        )
        return fetched

    def serious(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it is."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
        ]

    def width(self) -> int:
        """How wide the page is, beyond what can be seen."""
        beyond: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return beyond


Visit = Callable[..., Person]
