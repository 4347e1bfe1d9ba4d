"""A merchant's items: from a picture to a sale, to its decision, to what is shipped or refunded."""

import re
from uuid import uuid4

import pytest

from services.items.presales import HOUR_US
from tests.services.items.market import GROUP_ID, IMAGE_ID, MERCHANT
from tests.services.studio.selling import At, Street, hidden, sold, words


async def closed(street: Street, item: str) -> None:
    await street.market.close(await street.market.books.read(item.rpartition("/")[2]))


async def state(at: At, item: str) -> str:
    found = re.search("data-state>([^<]*)<", (await at.get(f"{item}/live")).text)
    assert found is not None
    return found[1]


async def test_a_picture_becomes_a_draft_that_nobody_sees_and_then_a_sale(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    form = await merchant.get(f"/items/new?group={GROUP_ID}&image={IMAGE_ID}")
    listing = street.listing(request_id=hidden(form.text)["request_id"])
    first, again = [await merchant.post("/items", listing) for _ in range(2)]
    item = first.headers["location"]
    assert again.headers["location"] == item
    assert "As buyers will see it" in words(await merchant.get(item))
    for path in (sold(item), f"{sold(item)}/picture.png", f"{sold(item)}/live"):
        assert (await buyer.get(path)).status_code == 404
    await merchant.post(f"{item}/open", etag="1")
    shown = words(await buyer.get(sold(item)))
    assert "€19.99" in shown and "made if at least 2 are ordered" in shown and "money goes back by itself" in shown
    assert "On sale" in words(await merchant.get("/items"))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("title", "", "1 to 120"),
        ("price", "x", "19.99"),
        ("price", "1.999", "19.99"),
        ("price", "NaN", "19.99"),
        ("price", "1e999999", "19.99"),
        ("price", "0", "must be"),
        ("price", "9999999999", "must be 1 to"),
        ("currency", "EURO", "three capital letters"),
        ("min_units", "", "whole number"),
        ("min_units", "99999999999", "whole number"),
        ("max_units", "1", "min_units to"),
        ("max_units_per_buyer", "-1", "whole number"),
        ("max_units_per_buyer", "1000001", "0 to 1000000"),
        ("close_time", "soon", "2030-01-31"),
        ("ships_within_days", "0", "1 to 365"),
        ("decide_within_hours", "721", "0 to 720"),
    ],
)
async def test_a_wrong_field_is_named_where_it_stands_and_nothing_is_lost(
    street: Street, field: str, value: str, problem: str
) -> None:
    merchant = await street.merchant()
    answer = await merchant.post("/items", street.listing(**{field: value}))
    assert answer.status_code == 400
    told = answer.text.partition(f'id="{field}-problem"')[2].partition("</p>")[0]
    assert problem in told
    assert answer.text.count('role="alert"') == 1
    assert "Of linen." in answer.text


async def test_another_tab_changes_nothing_that_it_has_not_seen(street: Street) -> None:
    merchant = await street.merchant()
    item = (await merchant.post("/items", street.listing())).headers["location"]
    before = hidden((await merchant.get(f"{item}/edit")).text)["etag"]
    changed = await merchant.post(f"{item}/edit", street.listing(title="Silk dress"), etag=before)
    assert changed.headers["location"] == item
    for path, form in ((f"{item}/edit", street.listing(title="Wool dress")), (f"{item}/open", {})):
        refused = await merchant.post(path, form, etag=before)
        assert refused.status_code == 409
        assert "another tab" in words(refused) and "Silk dress" in words(refused)
    assert (await merchant.post(f"{item}/open", etag=hidden(refused.text)["etag"])).status_code == 303
    record = (await merchant.get(item)).text.partition('<ol class="record">')[2]
    assert record.count("The draft was changed (the shop): What it is called") == 1


async def test_a_draft_that_would_close_in_the_past_says_so_when_it_is_opened(street: Street) -> None:
    merchant = await street.merchant()
    item = (await merchant.post("/items", street.listing(close_time="2020-01-01T00:00"))).headers["location"]
    refused = await merchant.post(f"{item}/open", etag="1")
    assert refused.status_code == 409
    assert "close in the past" in words(refused)


async def test_what_enough_ordered_is_made_delayed_and_shipped(street: Street) -> None:
    merchant, buyers = await street.merchant(), [street.browser() for _ in range(2)]
    item = await merchant.sells()
    orders = [await buyer.ordered(item) for buyer in buyers]
    await closed(street, item)
    assert await state(merchant, item) == "In production"
    page = await merchant.get(item)
    request_id = hidden(page.text)["request_id"]
    for _ in range(2):  # the form sent twice asks once
        asked = await merchant.post(f"{item}/delay", days="7", reason="the mill is late", request_id=request_id)
        assert asked.status_code == 303
    page = words(await merchant.get(item))
    assert "asked whether" in page and page.count("It comes later (the shop) — the mill is late") == 1
    later = await buyers[0].get(orders[0])
    assert "the mill is late" in words(later)
    for buyer, order, consents in zip(buyers, orders, "10", strict=True):
        assert (await buyer.post(f"{order}/delay", consents=consents)).headers["location"] == order
    await street.market.settle()
    assert "The later date was not accepted." in words(await buyers[1].get(orders[1]))
    order_id = orders[0].rpartition("/")[2]
    await merchant.post(f"{item}/ship", {f"tracking-{order_id}": "RR 1"}, order_id=order_id)
    shown = words(await buyers[0].get(orders[0]))
    assert "On its way" in shown and "RR 1" in shown and "Give it back" in shown
    await street.market.settle()
    assert await state(merchant, item) == "Shipped"
    assert "Ended: the money is back (the payment provider) — the later date was not accepted" in words(
        await merchant.get(item)
    )
    assert (await street.browser().get(f"{sold(item)}/picture.png")).status_code == 404


async def test_all_that_is_made_is_shipped_by_one_click(street: Street) -> None:
    merchant = await street.merchant()
    item = await merchant.sells(max_units="30")
    buyer = street.browser()
    for _ in range(22):  # two pages of orders
        await buyer.ordered(item)
    await closed(street, item)
    assert (await merchant.post(f"{item}/ship", all="1")).status_code == 303
    await street.market.settle()
    assert await state(merchant, item) == "Shipped"


async def test_below_the_minimum_the_merchant_decides_once(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells(decide_within_hours="24")
    order = await buyer.ordered(item)
    await closed(street, item)
    page = words(await merchant.get(item))
    assert "1 of 2 needed are ordered" in page and "If you do nothing, every buyer gets their money back" in page
    etag = hidden((await merchant.get(item)).text)["etag"]
    assert (await merchant.post(f"{item}/decide", decision="maybe", etag=etag)).status_code == 400
    assert (await merchant.post(f"{item}/decide", decision="produce", etag=etag)).status_code == 303
    refused = await merchant.post(f"{item}/decide", decision="refund", etag="")
    assert refused.status_code == 409 and "cannot be done any more" in words(refused)
    await street.market.settle()
    assert "Is being made" in words(await buyer.get(order))


async def test_without_a_decision_everybody_gets_their_money_back(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells(decide_within_hours="24")
    order = await buyer.ordered(item)
    await closed(street, item)
    street.market.pass_time(24 * HOUR_US)
    await street.market.settle()
    assert await state(merchant, item) == "Every buyer has their money back"
    assert "Too few were ordered" in words(await buyer.get(order))


async def test_a_production_that_is_given_up_refunds_what_is_not_shipped(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells(min_units="1")
    order = await buyer.ordered(item)
    await closed(street, item)
    await merchant.post(f"{item}/give-up", reason="the loom broke")
    await street.market.settle()
    assert await state(merchant, item) == "Every buyer has their money back"
    assert "The shop could not make it." in words(await buyer.get(order))
    assert "the loom broke" in words(await merchant.get(item))


async def test_wrong_days_are_told_at_their_field(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    item = await merchant.sells(min_units="1")
    await buyer.ordered(item)
    await closed(street, item)
    for days in ("", "x", "366"):
        refused = await merchant.post(f"{item}/delay", days=days, request_id=str(uuid4()))
        assert refused.status_code == 400 and 'id="days-problem"' in refused.text


async def test_another_merchant_finds_nothing_and_every_call_is_for_one(street: Street) -> None:
    merchant, another, buyer = await street.merchant(), await street.merchant("another"), street.browser()
    item = await merchant.sells()
    order = await buyer.ordered(item)
    for path in (item, f"{item}/live", f"{item}/edit"):
        assert (await another.get(path)).status_code == 404
    for what in ("open", "cancel", "decide", "give-up", "delay", "ship", "edit"):
        form = street.listing(etag="1", decision="refund", days="3", order_id=order.rpartition("/")[2])
        refused = await another.post(f"{item}/{what}", form, request_id=str(uuid4()))
        assert refused.status_code in (403, 404), what
    assert "Linen dress" not in words(await another.get("/items"))
    assert (await another.get(f"/items/new?group={GROUP_ID}&image={IMAGE_ID}")).status_code == 404
    assert (await another.post("/items", street.listing())).status_code == 403
    assert await state(merchant, item) == "On sale"
    assert {acting for _, acting in street.channel.calls} == {"", MERCHANT, "another"}
    assert {method for method, acting in street.channel.calls if not acting} == {"GetPresale"}


async def test_the_shops_name_is_what_buyers_read(street: Street) -> None:
    merchant, buyer = await street.merchant(), street.browser()
    await merchant.sells()
    shop = await street.studio.shops.of(MERCHANT)
    assert shop is not None and MERCHANT not in shop.shop_id
    assert (await merchant.post("/items/shop", name="  Linen \n & Wool ")).headers["location"] == "/items"
    assert "Linen & Wool" in words(await buyer.get(f"/shop/{shop.shop_id}"))
    assert (await merchant.post("/items/shop", name="x" * 81)).status_code == 400
