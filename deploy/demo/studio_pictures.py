"""`python -m deploy.demo.studio_pictures`: the merchant's page on the running platform, as the docs show it.

`make studio-pictures` runs it after `make studio`. A person designs, picks, compares and sells; what they see is
written to docs/pictures/studio-*.png.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, expect

from deploy.demo.browsing import PHONE, Person, chromium
from deploy.local.layout import ROOT, Layout

OUT = ROOT / "docs" / "pictures"
WINDOW = {"width": 1000, "height": 640}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.studio_pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="local", help="the running cluster's name")
    parser.add_argument("--port-offset", type=int, default=0, help="the running cluster's port offset")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write")
    options = parser.parse_args()
    home = f"http://localhost:{Layout(options.name, options.port_offset).port('studio')}"
    try:
        with chromium() as browser:
            for name in take(browser, home, options.out):
                print(f"wrote {options.out / name}")
    except FileNotFoundError as error:
        sys.exit(str(error))


def take(browser: Browser, home: str, out: Path) -> list[str]:
    """Returns the files' names."""
    written = []

    def shot(person: Person, name: str) -> None:
        person.page.wait_for_load_state()
        for picture in person.page.locator("label.picture img, figure img").all():
            expect(picture).to_have_js_property("complete", True)
        person.page.screenshot(path=out / f"studio-{name}.png")
        written.append(f"studio-{name}.png")

    chen = Person(browser, home, viewport=WINDOW).log_in("chen")
    chen.goes_to("/")
    chen.types("dress,v-neck")
    chen.page.locator("#prompt").press_sequentially("slee")
    chen.page.locator(".options li").first.wait_for()
    shot(chen, "design")
    chen.draws("dress,v-neck", num_candidates="10", num_steps="60")
    chen.page.locator("[data-previews] img").first.wait_for()
    chen.page.screenshot(path=out / "studio-round.png")
    written.append("studio-round.png")
    chen.draws("dress,v-neck", seed="7")
    chen.waits_for_group()
    for number in (0, 1):
        chen.page.locator("label.picture").nth(number).click()
    shot(chen, "group")
    chen.page.locator("[data-compare]").click()
    shot(chen, "compare")
    lin = Person(browser, home, locale="zh-CN", viewport=PHONE, device_scale_factor=2).log_in("lin")
    lin.draws("连衣裙，长袖", seed="7")
    lin.waits_for_group()
    shot(lin, "phone")
    shot_shop(chen, shot)
    return written


def shot_shop(chen: Person, shot: Callable[[Person, str], None]) -> None:
    """The item that the demonstration has put on sale, as its merchant sees it, and as a buyer does."""
    chen.goes_to("/items")
    chen.page.locator("main a[href^='/items/']:not([href$='new'])").first.click()
    chen.page.wait_for_load_state("networkidle")
    item = urlsplit(chen.page.url).path
    shot(chen, "item")
    chen.goes_to(f"/shop{item}")
    chen.page.wait_for_load_state("networkidle")
    shot(chen, "shop")


if __name__ == "__main__":
    main()
