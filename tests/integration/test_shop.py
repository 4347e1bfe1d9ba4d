"""An item's life in a real browser, on the running platform: from a merchant's click to a buyer's money, either way.

A sale that stays below its minimum gives the money back; another one, in which enough is ordered, is made and shipped.
"""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from perfusion.v1 import events_pb2 as pb
from playwright.sync_api import Browser, Page, expect

from contract import topics
from deploy.demo.browsing import PHONE, Person
from deploy.local.clients import read_events
from deploy.local.cluster import Cluster
from tests.integration.conftest import Visit

pytestmark = pytest.mark.cluster

SALE_S = 30.0  # until a sale of these tests closes
MONEY_MS = 60_000  # until what follows has followed, on a loaded machine


@pytest.fixture(scope="module")
def group(browser: Browser, home: str) -> str:
    """The path of a group of lin's, of which the first picture is picked."""
    lin = Person(browser, home).log_in("lin")
    lin.draws("dress,v-neck", num_candidates="2", num_steps="4")
    path = lin.waits_for_group()
    lin.page.locator("label.picture").first.click()
    lin.page.get_by_role("button", name="Store my pick").click()
    expect(lin.page.locator("#picked")).to_be_visible()
    lin.context.close()
    return path.partition("#")[0]


def sells(lin: Person, group: str, *, closes_in_s: float = 3600.0, **fields: str) -> str:
    """From the click beside the picked picture to the sale; returns the item's path."""
    page = lin.goes_to(group)
    page.get_by_role("link", name="Sell Picture").click()
    closes = datetime.now(UTC) + timedelta(seconds=closes_in_s)
    content = {
        "title": "Linen dress",
        "description": "Washed linen.\nSizes S to L.",
        "price": "19.99",
        "min_units": "2",
        "max_units": "4",
        "ships_within_days": "30",
        "decide_within_hours": "0",
        "close_time": closes.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    for name, value in (content | fields).items():
        page.locator(f"#{name}").fill(value)
    page.get_by_role("button", name="Store the draft").click()
    expect(page.get_by_role("heading", name="As buyers will see it")).to_be_visible()
    page.get_by_role("button", name="Put it on sale").click()
    expect(page.locator("[data-state]")).to_have_text("On sale")
    return page.url.removeprefix(lin.home)


def says_where(page: Page) -> None:
    """Whom an order is sent to."""
    for name, value in (("name", "Bo Ek"), ("address", "Storgatan 1\nStockholm"), ("email", "bo@ek.example")):
        page.locator(f"#{name}").fill(value)


def orders(buyer: Person, item: str, method: str = "pm_card_visa", units: str = "1") -> str:
    """From the item in the shop to the order's page; returns its path."""
    page = buyer.goes_to(f"/shop{item}")
    page.locator("#units").fill(units)
    says_where(page)
    page.locator("#payment_method").select_option(method)
    page.get_by_role("button", name="Order, and pay").click()
    page.wait_for_url("**/orders/*")
    return page.url.removeprefix(buyer.home)


def becomes(person: Person, state: str) -> None:
    """The page comes to a state by itself."""
    expect(person.page.locator("[data-state]")).to_have_text(state, timeout=MONEY_MS)


def met(cluster: Cluster, item: str) -> set[tuple[int, str, int, int]]:
    """What Kafka has of the viewer who gave the item back: (kind, surface, position, units)."""
    presale_id = item.rpartition("/")[2]

    def seen() -> list[pb.ShopEvent]:
        events = read_events(cluster.layout, topics.SHOP, pb.ShopEvent, "minimalist-store")
        return [event.message for event in events if event.message.presale_id == presale_id]

    returned = pb.SHOP_EVENT_KIND_RETURN
    ends = time.monotonic() + MONEY_MS / 1000
    while not (viewers := {event.viewer_hash for event in seen() if event.kind == returned}):
        assert time.monotonic() < ends, "Kafka has no return of this item"
        time.sleep(0.5)
    return {(e.kind, e.surface, e.position, e.units) for e in seen() if e.viewer_hash in viewers}


def test_too_few_order_and_the_money_comes_back_by_itself(visit: Visit, group: str) -> None:
    lin, buyer, stranger = visit("lin"), visit(), visit()
    item = sells(lin, group, closes_in_s=SALE_S, min_units="3")
    lin.goes_to("/items")
    shop = str(lin.page.locator("a.link").get_attribute("href")).removeprefix(lin.home)
    buyer.goes_to(shop)
    buyer.page.get_by_role("link", name="Linen dress").first.click()
    expect(buyer.page.locator("img.large")).to_have_js_property("complete", True)
    expect(buyer.page.get_by_role("main")).to_contain_text("made if at least 3 are ordered")
    lin.goes_to(item)
    order = orders(buyer, item)
    becomes(buyer, "Ordered")
    expect(lin.page.locator("[data-live-part]")).to_contain_text("1 of 3 needed are ordered", timeout=MONEY_MS)
    for path in (order, f"{order}/live", f"{order}/picture.png"):
        stranger.goes_to("/shop/x")
        assert stranger.status_of(path) == 404
    becomes(lin, "Every buyer has their money back")  # the pages follow by themselves
    becomes(buyer, "Ended: no money was taken")
    expect(buyer.page.get_by_role("main")).to_contain_text("Too few were ordered")
    assert stranger.status_of(f"/shop{item}/picture.png") == 404


def test_enough_order_and_it_is_made_and_shipped(visit: Visit, group: str, cluster: Cluster) -> None:
    lin, buyer, careful, poor = visit("lin"), visit(), visit(), visit()
    item = sells(lin, group, closes_in_s=SALE_S)
    orders(buyer, f"{item}?at=shop&place=1")  # as the shop's own page leads there
    becomes(buyer, "Ordered")
    orders(careful, item, "pm_card_authenticationRequired")
    careful.page.get_by_role("link", name="Approve the payment at your bank").click()
    careful.page.get_by_role("button", name="Approve").click()
    careful.page.wait_for_url(f"{careful.home}/orders/**")  # the bank sends them back
    becomes(careful, "Ordered")
    orders(poor, item, "pm_card_visa_chargeDeclined")
    becomes(poor, "Not paid")
    lin.goes_to(item)
    becomes(lin, "In production")
    becomes(buyer, "Is being made")
    becomes(careful, "Is being made")
    lin.page.reload()
    expect(lin.page.locator("#orders ~ form")).to_contain_text("Storgatan 1")
    buyer.page.reload()
    expect(buyer.page.get_by_role("main")).to_contain_text("bo@ek.example")

    lin.page.get_by_text("It comes later").click()
    lin.page.locator("#days").fill("7")
    lin.page.locator("#delay-reason").fill("the mill is late")
    lin.page.get_by_role("button", name="Ask the buyers").click()
    careful.page.reload()
    expect(careful.page.get_by_role("main")).to_contain_text("the mill is late")
    careful.page.get_by_role("button", name="I want my money back").click()
    becomes(careful, "Ended: the money is back")
    buyer.page.reload()
    buyer.page.get_by_role("button", name="I agree to the later date").click()

    lin.goes_to(item)
    number = lin.page.get_by_role("textbox", name="Carrier's number")
    expect(number).to_have_count(1)  # who has their money back gets nothing
    number.fill("RR 123")
    lin.page.get_by_role("button", name=re.compile("Ship Order")).click()
    becomes(lin, "Shipped")
    becomes(buyer, "On its way")
    expect(buyer.page.get_by_role("main")).to_contain_text("RR 123")
    buyer.page.get_by_text("Give it back", exact=True).click()
    buyer.page.get_by_role("button", name="Give it back now").click()
    becomes(buyer, "Ended: the money is back")
    record = lin.goes_to(item).locator(".record")
    for said in ("On sale", "In production", "the mill is late", "Shipped"):
        expect(record).to_contain_text(said)
    assert met(cluster, item) == {
        (pb.SHOP_EVENT_KIND_CLICK, "shop", 1, 0),
        (pb.SHOP_EVENT_KIND_IMPRESSION, "item", 0, 0),
        (pb.SHOP_EVENT_KIND_ORDER, "shop", 1, 1),
        (pb.SHOP_EVENT_KIND_RETURN, "shop", 1, 1),
    }


def test_a_merchant_decides_below_the_minimum_though_another_tab_is_open(visit: Visit, group: str) -> None:
    lin, buyer = visit("lin"), visit()
    item = sells(lin, group, closes_in_s=SALE_S, min_units="3", decide_within_hours="1")
    orders(buyer, item)
    lin.goes_to(item)
    becomes(lin, "Closed below what is needed: you decide")
    second = lin.context.new_page()
    second.goto(lin.home + item)
    lin.page.get_by_role("button", name="Make it all the same").click()
    becomes(lin, "In production")
    second.get_by_role("button", name="Give the money back now").click()
    expect(second.get_by_role("alert")).to_be_visible()
    becomes(buyer, "Is being made")


def test_a_click_more_and_a_page_loaded_again_order_once(visit: Visit, group: str) -> None:
    lin, buyer = visit("lin"), visit()
    item = sells(lin, group)
    page = buyer.goes_to(f"/shop{item}")
    says_where(page)
    page.locator("form.order").evaluate("form => { form.submit(); form.requestSubmit(); }")
    page.wait_for_url("**/orders/*")
    page.reload()
    buyer.goes_to("/orders")
    expect(page.locator("ol.history > li")).to_have_count(1)
    lin.goes_to(item)
    expect(lin.page.locator("#orders ~ form .about > li")).to_have_count(1)


def test_what_is_typed_survives_what_happens_meanwhile(visit: Visit, group: str) -> None:
    lin, buyer = visit("lin"), visit()
    item = sells(lin, group, closes_in_s=SALE_S, min_units="1")
    orders(buyer, item)
    lin.goes_to(item)
    lin.page.get_by_text("Cancel the sale", exact=True).click()
    lin.page.locator("#cancel-reason").fill("half a sentence")
    becomes(lin, "In production")
    expect(lin.page.locator("#cancel-reason")).to_have_value("half a sentence")
    lin.page.get_by_role("link", name="It has changed: load the page again.").click()
    expect(lin.page.get_by_role("heading", name="While it is made")).to_be_visible()


def test_buying_without_javascript(visit: Visit, group: str) -> None:
    lin, buyer = visit("lin", java_script_enabled=False), visit(java_script_enabled=False)
    item = sells(lin, group)
    orders(buyer, item, "pm_card_delayed")
    becomes(buyer, "Ordered")  # the page loads itself again
    buyer.page.get_by_text("Cancel the order", exact=True).click()
    buyer.page.get_by_role("button", name="Cancel the order now").click()
    becomes(buyer, "Ended: no money was taken")


def test_buying_by_keyboard_alone(visit: Visit, group: str) -> None:
    lin, buyer = visit("lin"), visit()
    page = buyer.goes_to(f"/shop{sells(lin, group)}")
    typed = {"name": "Bo Ek", "address": "Storgatan 1, Stockholm", "email": "bo@ek.example"}
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('[data-send]')"):
            break
        page.keyboard.type(typed.get(page.evaluate("document.activeElement.id"), ""))
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/*")
    becomes(buyer, "Ordered")
    page.locator("details.act summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    becomes(buyer, "Ended: no money was taken")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_every_page_can_be_heard_and_fits_a_phone(visit: Visit, group: str, locale: str) -> None:
    english = visit("lin")
    item = sells(english, group)
    lin, buyer = visit("lin", locale=locale, viewport=PHONE), visit(locale=locale, viewport=PHONE)
    english.goes_to("/items")
    shop = str(english.page.locator("a.link").get_attribute("href")).removeprefix(english.home)
    says_where(buyer.goes_to(f"/shop{item}"))
    buyer.page.locator("[data-send]").click()
    buyer.page.wait_for_url("**/orders/*")
    order = buyer.page.url.removeprefix(buyer.home)
    new = f"/items/new?group={group.rpartition('/')[2]}&image={_picture(english, group)}"
    for person, paths in ((lin, ("/items", item, new)), (buyer, (shop, f"/shop{item}", order, "/orders", "/shop/x"))):
        for path in paths:
            page = person.goes_to(path)
            page.locator("details.act").evaluate_all("all => all.forEach(each => each.open = true)")
            assert page.locator("html").get_attribute("lang") == locale[:2]
            assert person.serious() == [], path
            assert person.width() <= 0, path


def _picture(person: Person, group: str) -> str:
    person.goes_to(group)
    return person.page.locator("label.picture input").first.input_value()
