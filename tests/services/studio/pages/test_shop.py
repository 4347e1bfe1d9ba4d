"""The shop: what anybody sees, what one buyer alone sees, and what no form does twice."""

import re
from pathlib import Path

import pytest
from perfusion.v1 import events_pb2 as events
from prometheus_client import CollectorRegistry

from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.studio.adapters.tables import SCHEMA
from services.studio.buyers import Buyer, known_buyer, new_buyer
from services.studio.guard import OPEN_BYTES
from services.studio.metrics import StudioMetrics
from services.studio.seeing import Sight, Sightings
from tests.services.items.market import MERCHANT, MINUTE_US
from tests.services.studio.selling import METHODS, OWN, PNG, RECIPIENT, Street, hidden, sold, words


async def orders_of(street: Street, item: str) -> int:
    return len(await street.market.orders_of(await street.market.books.read(item.rpartition("/")[2])))


async def test_a_shop_shows_what_is_on_sale_and_nothing_else(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    items = [await merchant.sells(title=f"Dress number {number}") for number in range(22)]
    await merchant.post("/items", street.listing(title="A draft of mine"))
    await merchant.post(f"{items[0]}/cancel", etag="")
    shop = await street.studio.shops.of(MERCHANT)
    assert shop is not None
    page = await buyer.get(f"/shop/{shop.shop_id}")
    more = re.search(r'href="(/shop/[^"]*\?page=[^"]*)"', page.text)
    assert more is not None
    rest = await buyer.get(more[1].replace("&amp;", "&"))
    shown = re.findall(r"Dress number (\d+)", words(page) + words(rest))
    assert [int(number) for number in shown] == list(range(21, 0, -1))
    assert "A draft of mine" not in page.text + rest.text
    assert "place=21" in rest.text
    assert MERCHANT not in page.text  # no merchant's name but the one that they gave
    for path in ("/shop/nobody", f"/shop/{shop.shop_id}?page=x", "/shop/a%00b"):
        assert (await buyer.get(path)).status_code == 404


async def test_a_form_that_is_sent_twice_is_one_order_and_pays_once(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    form = hidden((await buyer.get(sold(item))).text) | RECIPIENT | {"units": "1", "payment_method": METHODS[0]}
    answers = [await buyer.post(f"{sold(item)}/orders", form) for _ in range(3)]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert await orders_of(street, item) == 1
    assert len(street.market.bank.books.entries) == 1
    other = await buyer.post(f"{sold(item)}/orders", form, units="2")
    assert other.status_code == 409
    assert await buyer.ordered(item) != answers[0].headers["location"]  # from a page of its own


async def test_an_order_is_seen_by_the_browser_that_placed_it_alone(street: Street) -> None:
    merchant, buyer, stranger = await street.merchant(), street.browser(), street.browser()
    item = await merchant.sells()
    order = await buyer.ordered(item)
    stranger.form_token = hidden((await stranger.get(sold(item))).text)["form_token"]
    for at in (stranger, merchant, street.browser()):
        for path in (order, f"{order}/live", f"{order}/picture.png"):
            assert (await at.get(path)).status_code == 404
    for path in (f"{order}/cancel", f"{order}/delay"):
        assert (await stranger.post(path, consents="0")).status_code == 404
        assert (await street.browser().post(path)).status_code == 403
    assert order.rpartition("/")[2] not in (await stranger.get("/orders")).text
    assert order in (await buyer.get("/orders")).text
    assert "Ordered" in words(await buyer.get(order))
    orders = await street.market.orders_of(await street.market.books.read(item.rpartition("/")[2]))
    secret = buyer.client.cookies[street.studio.buyer_cookie]
    assert orders[0].buyer_id == Buyer(secret).buyer_id
    assert secret not in repr(orders)  # whoever reads orders cannot become their buyer


async def test_the_buyers_cookie_is_kept_from_scripts_and_other_hosts(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    first, second = await buyer.get(sold(item)), await buyer.get(sold(item))
    cookie = first.headers["set-cookie"]
    assert cookie.startswith("__Host-buyer=")
    for attribute in ("HttpOnly", "Secure", "Path=/", "SameSite=lax"):
        assert attribute in cookie
    assert "set-cookie" not in second.headers
    buyer.client.cookies.clear()
    buyer.client.cookies.set("__Host-buyer", "x" * 44, domain="studio.example")
    assert "set-cookie" in (await buyer.get(sold(item))).headers


async def test_a_form_of_another_page_or_browser_orders_nothing(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    path, form = f"{sold(item)}/orders", hidden((await buyer.get(sold(item))).text)
    form |= RECIPIENT | {"units": "1", "payment_method": METHODS[0]}
    for token in ("", "x", "é", new_buyer().form_token):
        assert (await buyer.client.post(path, data=form | {"form_token": token}, headers=OWN)).status_code == 403
    for headers in ({}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert (await buyer.client.post(path, data=form, headers=headers)).status_code == 403
    assert (await buyer.post(path, form, units="1" * OPEN_BYTES)).status_code == 413
    assert (await street.browser().post(path, form)).status_code == 403
    assert await orders_of(street, item) == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"units": "0"}, "units"), ({"units": "x"}, "units"), ({"units": "1001"}, "units")]
    + [({"payment_method": ""}, "payment_method"), ({"payment_method": "pm_of_mine"}, "payment_method")]
    + [({"name": " "}, "name"), ({"address": ""}, "address"), ({"email": "bo at ek"}, "email")],
)
async def test_what_is_wrong_is_told_at_its_field(street: Street, fields: dict[str, str], field: str) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    refused = await buyer.orders(await merchant.sells(), **fields)
    assert refused.status_code == 400
    assert f'id="{field}-problem"' in refused.text and refused.text.count('role="alert"') == 1


async def test_too_many_units_and_a_closed_sale_are_told(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    refused = await buyer.orders(item, units="4")
    assert refused.status_code == 409 and "Only 3 are left." in words(refused)
    await buyer.ordered(item, units="3")
    assert "All are ordered." in words(await buyer.orders(item, units="1"))
    late = hidden((await buyer.get(sold(item))).text) | RECIPIENT | {"units": "1", "payment_method": METHODS[0]}
    street.market.pass_time(60 * MINUTE_US)
    refused = await buyer.post(f"{sold(item)}/orders", late)
    assert refused.status_code == 409 and "takes no orders any more" in words(refused)


async def test_more_than_one_buyer_may_order_is_told_at_its_field_and_another_buyer_may(street: Street) -> None:
    merchant, buyer, other = await street.merchant(), street.browser(), street.browser()
    item = await merchant.sells(max_units="30", max_units_per_buyer="2")
    page = await buyer.get(sold(item))
    assert "At most 2 for one buyer." in words(page) and 'max="2"' in page.text
    await buyer.ordered(item)
    refused = await buyer.orders(item, units="2")
    told = refused.text.partition('id="units-problem"')[2].partition("</p>")[0]
    assert refused.status_code == 409 and "You may order 1 more of it." in told
    await buyer.ordered(item)
    assert "You have ordered as many as one buyer may." in words(await buyer.orders(item))
    await other.ordered(item, units="2")


async def test_whom_it_is_sent_to_is_seen_by_the_buyer_and_by_the_merchant_once_it_is_made(street: Street) -> None:
    merchant, buyer, other = await street.merchant(), street.browser(), street.browser()
    item = await merchant.sells()
    order = await buyer.ordered(item)
    shown = words(await buyer.get(order))
    for said in ("Bo Ek", "Storgatan 1 111 22 Stockholm Sweden", "bo@ek.example"):
        assert said in shown
    for page in (await merchant.get(item), await buyer.get(sold(item)), await buyer.get(f"{order}/live")):
        assert "Bo Ek" not in page.text and "bo@ek.example" not in page.text
    assert (await other.get(order)).status_code == 404
    await other.ordered(item, name="<b>Al</b>")
    street.market.pass_time(60 * MINUTE_US)
    await street.market.settle()
    made = await merchant.get(item)
    assert "Bo Ek Storgatan 1 111 22 Stockholm Sweden bo@ek.example" in words(made)
    assert "&lt;b&gt;Al&lt;/b&gt;" in made.text and "<b>Al" not in made.text


async def test_a_form_that_is_wrong_keeps_what_was_typed(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    refused = await buyer.orders(await merchant.sells(), units="x")
    assert 'value="Bo Ek"' in refused.text and "Storgatan 1\n111 22 Stockholm\nSweden</textarea>" in refused.text


async def test_without_means_to_pay_items_are_shown_and_not_sold(street: Street, tmp_path: Path) -> None:
    merchant = await street.merchant()
    item = await merchant.sells()
    database = Database(f"sqlite:///{tmp_path / 'studio.sqlite'}", SCHEMA, timeout_s=20)
    without = Street(street.market, database, tmp_path / "token", ())
    buyer = without.browser()
    page = await buyer.get(sold(item))
    assert "Orders cannot be paid here yet." in words(page) and "<form" not in page.text
    buyer.form_token = Buyer(buyer.client.cookies["__Host-buyer"]).form_token
    assert (await buyer.post(f"{sold(item)}/orders", units="1", payment_method=METHODS[0])).status_code == 400
    await database.close()


async def test_who_cancels_a_sale_takes_its_picture_back(street: Street) -> None:
    merchant, buyer, stranger = await street.merchant(), street.browser(), street.browser()
    item = await merchant.sells()
    order = await buyer.ordered(item)
    assert (await stranger.get(f"{sold(item)}/picture.png")).content == PNG
    await merchant.post(f"{item}/cancel", etag="", reason="the mill burnt down")
    assert (await stranger.get(f"{sold(item)}/picture.png")).status_code == 404
    page = await stranger.get(sold(item))
    assert "This sale is over." in words(page) and "Of linen." not in page.text and "picture.png" not in page.text
    assert (await buyer.get(f"{order}/picture.png")).content == PNG  # who ordered knows what
    await street.market.settle()
    assert "The shop ended the sale." in words(await buyer.get(order))


async def test_a_payment_that_the_bank_asks_about_and_one_that_is_declined(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    order = await buyer.ordered(item, payment_method="pm_card_authenticationRequired")
    page = await buyer.get(order)
    assert 'href="https://payments.invalid/actions/' in page.text and 'http-equiv="refresh"' in page.text
    [entry] = street.market.bank.books.entries.values()
    street.market.bank.act(entry.payment.payment_id, True)
    await street.market.hear(street.market.provider.posts())
    await street.market.settle()
    page = await buyer.get(order)
    assert "Your money is held" in words(page) and "payments.invalid" not in page.text
    declined = words(await buyer.get(await buyer.ordered(item, payment_method="pm_card_visa_chargeDeclined")))
    assert "Not paid" in declined and "Your card was declined." in declined


async def test_a_buyer_cancels_and_gets_the_money_back(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    order = await buyer.ordered(item)
    for _ in range(2):
        assert (await buyer.post(f"{order}/cancel")).headers["location"] == order
    await street.market.settle()
    page = words(await buyer.get(order))
    assert "Ended: no money was taken" in page and "You cancelled the order." in page
    refused = await buyer.post(f"{order}/delay", consents="1")
    assert refused.status_code == 409 and "cannot be done any more" in words(refused)


async def test_impressions_and_clicks_are_recorded_where_they_happened(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    items = [await merchant.sells() for _ in range(2)]
    shop = await street.studio.shops.of(MERCHANT)
    assert shop is not None
    for _ in range(2):  # the page loaded again counts no second time
        await buyer.get(f"/shop/{shop.shop_id}")
        await buyer.get(f"{sold(items[0])}?at=shop&place=2")
    order = await buyer.orders(items[0], "?at=shop&place=2")
    await buyer.get(f"{sold(items[1])}?at=<b>&place=x")
    await buyer.client.get(sold(items[1]) + "?at=mail", headers={"sec-purpose": "prefetch"})
    await street.sightings.send()
    found = {event.event_id: event for event in street.events.seen}
    kinds = {events.SHOP_EVENT_KIND_IMPRESSION: "shown", events.SHOP_EVENT_KIND_CLICK: "opened"}
    seen = sorted((kinds[e.kind], e.surface, e.position, e.presale_id == items[0][-36:]) for e in found.values())
    assert seen == [
        ("opened", "link", 0, False),
        ("opened", "shop", 2, True),
        ("shown", "item", 0, False),
        ("shown", "item", 0, True),
        ("shown", "shop", 1, False),
        ("shown", "shop", 2, True),
    ]
    viewer = Buyer(buyer.client.cookies["__Host-buyer"])
    assert {event.viewer_hash for event in found.values()} == {viewer.viewer_hash}
    assert viewer.buyer_id not in str(found)
    assert all(event.user_id == MERCHANT and event.item_create_time.seconds for event in found.values())
    placed = await street.market.books.read_order(order.headers["location"].rpartition("/")[2])
    assert placed.encounter is not None
    assert (placed.encounter.surface, placed.encounter.position) == ("shop", 2)
    assert placed.encounter.viewer_hash == viewer.viewer_hash


async def test_what_the_shop_saw_waits_for_an_outage_and_the_shop_does_not(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells()
    street.events.fails = Unavailable("kafka")
    assert (await buyer.get(sold(item))).status_code == 200
    with pytest.raises(Unavailable):
        await street.sightings.send()
    street.events.fails = None
    await street.sightings.send()
    await street.sightings.send()
    assert len(street.events.seen) == 2
    street.events.fails = RuntimeError("a fault")
    await buyer.get(sold(item))
    await street.sightings.send()  # lost, and counted
    assert street.registry.get_sample_value("perfusion_studio_lost_sights_total") == 2


async def test_only_so_much_waits(street: Street) -> None:
    merchant = await street.merchant()
    item = await merchant.sells()
    presale = await street.items.shown(item[-36:])
    registry = CollectorRegistry()
    few = Sightings(street.items, now_us, StudioMetrics(registry), most=3)
    for number in range(5):
        few.shown(presale, Sight("v" * 16, "shop", number))
    street.events.fails = Unavailable("kafka")
    with pytest.raises(Unavailable):
        await few.send()
    few.shown(presale, Sight("v" * 16, "shop", 5))
    street.events.fails = None
    await few.send()
    assert [event.position for event in street.events.seen] == [3, 4, 5]
    assert registry.get_sample_value("perfusion_studio_lost_sights_total") == 3


async def test_what_the_provider_posts_is_handed_on_as_it_came(street: Street) -> None:
    merchant, buyer, provider = await street.merchant(), street.browser(), street.browser().client
    item = await merchant.sells()
    order = await buyer.ordered(item, payment_method="pm_card_authenticationRequired")
    [entry] = street.market.bank.books.entries.values()
    street.market.bank.act(entry.payment.payment_id, True)
    for payload, signature in street.market.provider.posts():
        wrong = await provider.post("/payments", content=payload + b" ", headers={"stripe-signature": signature})
        assert wrong.status_code == 403
        taken = await provider.post("/payments", content=payload, headers={"stripe-signature": signature})
        assert taken.status_code == 204 and "set-cookie" not in taken.headers
    await street.market.settle()
    assert "Ordered" in words(await buyer.get(order))
    assert (await provider.post("/payments", content=b"{}")).status_code == 400
    large = await provider.post("/payments", content=b"x" * (OPEN_BYTES + 1), headers={"stripe-signature": "x"})
    assert large.status_code == 413
    street.channel.fails = Unavailable("database")
    later = await provider.post("/payments", content=payload, headers={"stripe-signature": signature})
    assert later.status_code == 503
    assert (await provider.post("/payments", headers={"host": "elsewhere.example"})).status_code == 403


def test_what_a_buyer_is_called_tells_nothing_of_the_browsers_secret() -> None:
    one, other = new_buyer(), new_buyer()
    names = [one.buyer_id, one.viewer_hash, one.form_token, other.buyer_id, other.viewer_hash, other.form_token]
    assert len(set(names)) == 6 and all(re.fullmatch("[0-9a-f]{64}", name) for name in names)
    assert known_buyer(one.secret) == one
    for secret in ("", one.secret[:-1], one.secret + "x", one.buyer_id, "é" * 43):
        assert known_buyer(secret) is None
