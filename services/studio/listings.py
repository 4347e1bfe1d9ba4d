"""What a merchant is about to sell: the form's content, from a picture, from a draft, or as it was sent.

It knows the form and the API's terms. The services check what a field may be; here is only what is no number or time
at all.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1.presale_pb2 import Money, PresaleTerms

from services.runtime.errors import InvalidArgument
from services.runtime.fields import Fields
from services.studio.languages import decimals

CURRENCIES = ("CNY", "EUR", "GBP", "HKD", "JPY", "KRW", "SGD", "USD")
_AMOUNT = re.compile(r"\d{1,12}(\.\d{1,4})?")
_MOST = 2**31 - 1  # of the message's numbers
_FIELDS = {"price.currency": "currency", "price.minor_units": "price"}  # of the terms, where the form has another name


@dataclass(frozen=True)
class Listing:
    """The form, as it is typed. `close_time` is UTC, such as 2030-01-31T18:00:00."""

    group_id: str = ""
    image_id: str = ""
    title: str = ""
    description: str = ""
    price: str = ""
    currency: str = "EUR"
    min_units: str = "10"
    max_units: str = "100"
    close_time: str = ""
    ships_within_days: str = "30"
    decide_within_hours: str = "48"
    max_units_per_buyer: str = "0"


def of_terms(terms: PresaleTerms) -> Listing:
    """The form that changes a draft."""
    price = Decimal(terms.price.minor_units).scaleb(-decimals(terms.price.currency))
    return Listing(
        group_id=terms.group_id,
        image_id=terms.image_id,
        title=terms.title,
        description=terms.description,
        price=f"{price:f}",
        currency=terms.price.currency,
        min_units=str(terms.min_units),
        max_units=str(terms.max_units),
        close_time=local_time(terms.close_time),
        ships_within_days=str(terms.ships_within_days),
        decide_within_hours=str(terms.decide_within_hours),
        max_units_per_buyer=str(terms.max_units_per_buyer),
    )


def local_time(time: Timestamp) -> str:
    """As a browser's field for times has it, in UTC."""
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def of_form(form: Mapping[str, Sequence[str]], start: Listing) -> Listing:
    """The form as it comes from a browser; a field that is not there is as in `start`."""
    given = {each.name: form[each.name][-1].strip() for each in fields(Listing) if form.get(each.name)}
    if "description" in given:  # a browser's ends of lines
        given["description"] = given["description"].replace("\r\n", "\n")
    return replace(start, **given)


def terms_of(listing: Listing) -> PresaleTerms:
    """The API's terms.

    Raises:
        InvalidArgument: a number or a time is none, by the form's names of fields.
    """
    problems = Fields()
    terms = PresaleTerms(
        group_id=listing.group_id,
        image_id=listing.image_id,
        title=listing.title,
        description=listing.description,
        price=Money(currency=listing.currency, minor_units=_minor_units(problems, listing)),
    )
    for name in ("min_units", "max_units", "max_units_per_buyer", "ships_within_days", "decide_within_hours"):
        setattr(terms, name, whole(problems, getattr(listing, name), name))
    try:
        terms.close_time.FromDatetime(datetime.fromisoformat(listing.close_time).replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        problems.refuse("close_time", "must be a time such as 2030-01-31T18:00")
    problems.done()
    return terms


def whole(problems: Fields, text: str, name: str) -> int:
    """A form's whole number; a wrong one is noted."""
    fine = text.isdecimal() and len(text) <= 10 and int(text) <= _MOST
    problems.require(fine, name, "must be a whole number")
    return int(text) if fine else 0


def _minor_units(problems: Fields, listing: Listing) -> int:
    digits = decimals(listing.currency)
    example = "19.99" if digits else "1999"
    is_amount = bool(_AMOUNT.fullmatch(listing.price)) and len(listing.price.partition(".")[2]) <= digits
    problems.require(is_amount, "price", f"must be an amount such as {example}")
    return int(Decimal(listing.price).scaleb(digits)) if is_amount else 0


def as_typed(error: InvalidArgument) -> InvalidArgument:
    """The API's error about terms, by the form's names of fields."""
    named = ((field.removeprefix("terms."), problem) for field, problem in error.violations)
    return InvalidArgument(*((_FIELDS.get(field, field), problem) for field, problem in named))
