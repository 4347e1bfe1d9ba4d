"""From a request to the service's own terms, or to InvalidArgument naming every wrong field.

It knows the API's limits and the form of ids.
"""

import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import events_pb2 as events
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb

from services.items import shop
from services.items.messages import DECISIONS, STATES
from services.items.orders import Encounter, Recipient
from services.items.presales import Decision, State, Terms
from services.items.selling import Wanted
from services.runtime.fields import Fields

MOST_PRICE = 100_000_000  # minor units a unit
MOST_UNITS = 1_000_000
MOST_UNITS_AN_ORDER = 1000
MOST_DAYS = 365
MOST_DECIDE_HOURS = 30 * 24
MOST_REASON_CHARS = 500
MOST_PAYLOAD_BYTES = 2**16
MOST_EVENTS = 1000
_CURRENCY = re.compile(r"[A-Z]{3}")
_SURFACE = re.compile(r"[a-z0-9_-]{1,40}")
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
MOST_EMAIL_CHARS = 254  # RFC 5321
_LATEST_S = 253_402_300_799  # the last second that a Timestamp can name


def terms_of(fields: Fields, terms: pb.PresaleTerms) -> Terms:
    """What is sold, and how; wrong fields are noted."""
    at = "terms."
    price, least, most = terms.price, terms.min_units, terms.max_units
    fields.require(bool(_CURRENCY.fullmatch(price.currency)), f"{at}price.currency", "must be three capital letters")
    fields.require(1 <= price.minor_units <= MOST_PRICE, f"{at}price.minor_units", f"must be 1 to {MOST_PRICE}")
    fields.require(1 <= least <= MOST_UNITS, f"{at}min_units", f"must be 1 to {MOST_UNITS}")
    fields.require(least <= most <= MOST_UNITS, f"{at}max_units", f"must be min_units to {MOST_UNITS}")
    each = terms.max_units_per_buyer
    fields.require(0 <= each <= MOST_UNITS, f"{at}max_units_per_buyer", f"must be 0 to {MOST_UNITS}")
    days, hours = terms.ships_within_days, terms.decide_within_hours
    fields.require(1 <= days <= MOST_DAYS, f"{at}ships_within_days", f"must be 1 to {MOST_DAYS}")
    fields.require(0 <= hours <= MOST_DECIDE_HOURS, f"{at}decide_within_hours", f"must be 0 to {MOST_DECIDE_HOURS}")
    fields.require(terms.HasField("close_time"), f"{at}close_time", "must be set")
    return Terms(
        group_id=fields.uuid(terms.group_id, f"{at}group_id"),
        image_id=fields.uuid(terms.image_id, f"{at}image_id"),
        title=fields.text(terms.title, f"{at}title", 120, least=1),
        description=fields.text(terms.description, f"{at}description", 4000),
        currency=price.currency,
        price=price.minor_units,
        min_units=least,
        max_units=most,
        close_us=_microseconds(fields, terms.close_time, f"{at}close_time"),
        ships_within_days=days,
        decide_within_hours=hours,
        max_units_per_buyer=each,
    )


def _microseconds(fields: Fields, time: Timestamp, field: str) -> int:
    seconds, nanos = int(time.seconds), int(time.nanos)
    fine = 0 <= seconds <= _LATEST_S and 0 <= nanos < 1_000_000_000
    fields.require(fine, field, "must be a time between 1970 and 9999")
    return seconds * 1_000_000 + nanos // 1000 if fine else 0


def created(request: api.CreatePresaleRequest) -> tuple[str, str, Terms]:
    """The request's id, the merchant, and what is sold."""
    fields = Fields()
    request_id, user_id = fields.uuid(request.request_id, "request_id"), fields.user_id(request.user_id)
    terms = terms_of(fields, request.terms)
    fields.done()
    return request_id, user_id, terms


def edited(request: api.UpdatePresaleRequest) -> tuple[str, str, str, Terms]:
    """The presale, the merchant, the etag that was read, and the terms from now on."""
    fields = Fields()
    presale_id, user_id = fields.uuid(request.presale_id, "presale_id"), fields.user_id(request.user_id)
    etag = fields.text(request.etag, "etag", 40, least=1)
    terms = terms_of(fields, request.terms)
    fields.done()
    return presale_id, user_id, etag, terms


def owned(
    request: api.OpenPresaleRequest | api.CancelPresaleRequest | api.DecidePresaleRequest | api.FailProductionRequest,
) -> tuple[str, str]:
    """The presale and the merchant; and whatever else the request has is checked."""
    fields = Fields()
    presale_id, user_id = fields.uuid(request.presale_id, "presale_id"), fields.user_id(request.user_id)
    if isinstance(request, api.DecidePresaleRequest):
        fields.require(request.decision in DECISIONS, "decision", "must be PRODUCE or REFUND")
    if not isinstance(request, api.FailProductionRequest):
        fields.text(request.etag, "etag", 40)
    if not isinstance(request, api.OpenPresaleRequest):
        fields.text(request.reason, "reason", MOST_REASON_CHARS)
    fields.done()
    return presale_id, user_id


def decision_of(request: api.DecidePresaleRequest) -> Decision:
    """The decision of a request that was checked."""
    return DECISIONS[request.decision]


def delayed(request: api.DelayPresaleRequest) -> tuple[str, str, str]:
    """The request's id, the presale, and the merchant."""
    fields = Fields()
    request_id = fields.uuid(request.request_id, "request_id")
    presale_id, user_id = fields.uuid(request.presale_id, "presale_id"), fields.user_id(request.user_id)
    fields.require(1 <= request.days <= MOST_DAYS, "days", f"must be 1 to {MOST_DAYS}")
    fields.text(request.reason, "reason", MOST_REASON_CHARS)
    fields.done()
    return request_id, presale_id, user_id


def wanted(request: api.PlaceOrderRequest) -> Wanted:
    """The order that a buyer asks for."""
    fields = Fields()
    fields.require(1 <= request.units <= MOST_UNITS_AN_ORDER, "units", f"must be 1 to {MOST_UNITS_AN_ORDER}")
    order = Wanted(
        request_id=fields.uuid(request.request_id, "request_id"),
        presale_id=fields.uuid(request.presale_id, "presale_id"),
        buyer_id=fields.user_id(request.buyer_id, "buyer_id"),
        units=request.units,
        payment_method=fields.text(request.payment_method, "payment_method", 200, least=1),
        encounter=_encounter(fields, request.encounter) if request.HasField("encounter") else None,
        ship_to=_recipient(fields, request.ship_to) if request.HasField("ship_to") else None,
    )
    fields.done()
    return order


def _recipient(fields: Fields, told: pb.Recipient) -> Recipient:
    at = "ship_to."
    is_address = len(told.email) <= MOST_EMAIL_CHARS and bool(_EMAIL.fullmatch(told.email))
    fields.require(is_address, f"{at}email", f"must be an e-mail address of at most {MOST_EMAIL_CHARS} characters")
    name = fields.text(told.name, f"{at}name", 200, least=1)
    return Recipient(name, fields.text(told.address, f"{at}address", 1000, least=1), told.email)


def _encounter(fields: Fields, met: api.Encounter) -> Encounter:
    _check_encounter(fields, met.surface, met.position, met.viewer_hash, met.arm, "encounter.")
    return Encounter(met.surface, met.position, met.viewer_hash, met.arm)


def _check_encounter(fields: Fields, surface: str, position: int, viewer_hash: str, arm: str, at: str) -> None:
    fields.require(bool(_SURFACE.fullmatch(surface)), f"{at}surface", "must be 1 to 40 of a-z, 0-9, - and _")
    fields.require(0 <= position <= 1_000_000, f"{at}position", "must be 0 to 1000000")
    fields.text(viewer_hash, f"{at}viewer_hash", 64, least=16)
    fields.text(arm, f"{at}arm", 40)


def of_order(order_id: str, by: str, field: str) -> tuple[str, str]:
    """The order, and its buyer or merchant, by the field that names them."""
    fields = Fields()
    found = fields.uuid(order_id, "order_id"), fields.user_id(by, field)
    fields.done()
    return found


def shipped(request: api.ShipOrderRequest) -> tuple[str, str, str]:
    """The order, the merchant, and the carrier's number."""
    fields = Fields()
    order_id, user_id = fields.uuid(request.order_id, "order_id"), fields.user_id(request.user_id)
    tracking = fields.text(request.tracking, "tracking", 100)
    fields.done()
    return order_id, user_id, tracking


def states_of(fields: Fields, request: api.ListPresalesRequest) -> frozenset[State]:
    """The states that are listed, none for all; wrong ones are noted."""
    for i, state in enumerate(request.states):
        fields.require(state in STATES, f"states[{i}]", "must be a state of a presale")
    return frozenset(STATES[state] for state in request.states if state in STATES)


def presale_id_of(request: api.GetPresaleRequest) -> str:
    """The presale."""
    fields = Fields()
    presale_id = fields.uuid(request.presale_id, "presale_id")
    fields.done()
    return presale_id


def payload_of(request: api.ReceivePaymentEventRequest) -> tuple[bytes, str]:
    """What the provider posted, and its signature."""
    fields = Fields()
    most = MOST_PAYLOAD_BYTES
    fields.require(0 < len(request.payload) <= most, "payload", f"must have 1 to {most} bytes")
    fields.text(request.signature, "signature", 1000, least=1)
    fields.done()
    return request.payload, request.signature


def shop_events_of(request: api.RecordShopEventsRequest) -> Sequence[events.ShopEvent]:
    """What the shop saw."""
    fields = Fields()
    fields.require(1 <= len(request.events) <= MOST_EVENTS, "events", f"must be 1 to {MOST_EVENTS}")
    for i, event in enumerate(request.events[:MOST_EVENTS]):
        at = f"events[{i}]."
        for field in ("event_id", "presale_id", "group_id", "image_id"):
            setattr(event, field, fields.uuid(getattr(event, field), at + field))
        fields.user_id(event.user_id, f"{at}user_id")
        fields.require(event.kind in shop.KINDS, f"{at}kind", "must be IMPRESSION or CLICK")
        fields.require(event.units == 0, f"{at}units", "must be 0")
        for name in ("event_time", "item_create_time"):
            fields.require(event.HasField(name), at + name, "must be set")
            _microseconds(fields, getattr(event, name), at + name)
        _check_encounter(fields, event.surface, event.position, event.viewer_hash, event.arm, at)
    fields.done()
    return request.events
