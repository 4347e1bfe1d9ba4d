"""The form of what is sold, and the terms that it becomes."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfusion.v1.presale_pb2 import PresaleTerms

from services.runtime.errors import InvalidArgument
from services.studio.listings import Listing, as_typed, of_form, of_terms, terms_of

GOOD = Listing(group_id="group", image_id="image", title="Dress", price="19.99", close_time="2030-01-31T18:00:05")


@pytest.mark.parametrize(
    ("currency", "price", "minor_units"),
    [("EUR", "19.99", 1999), ("EUR", "20", 2000), ("EUR", "0.5", 50), ("JPY", "1999", 1999), ("EUR", "１２", 1200)],
)
def test_a_price_is_counted_in_its_currencys_smallest_units(currency: str, price: str, minor_units: int) -> None:
    terms = terms_of(replace(GOOD, currency=currency, price=price))
    assert (terms.price.currency, terms.price.minor_units) == (currency, minor_units)


@pytest.mark.parametrize(
    ("currency", "price"),
    [("JPY", "19.99"), ("EUR", "1.999"), ("EUR", "19,99"), ("EUR", "-1"), ("EUR", "1e3"), ("EUR", "inf"), ("EUR", "")],
)
def test_what_is_no_price_is_refused(currency: str, price: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        terms_of(replace(GOOD, currency=currency, price=price))
    assert [field for field, _ in refused.value.violations] == ["price"]


def test_a_form_becomes_terms_and_a_form_again() -> None:
    terms = terms_of(GOOD)
    assert terms.close_time.ToJsonString() == "2030-01-31T18:00:05Z"
    assert of_terms(terms) == GOOD
    form = {"title": ["a", " Silk dress "], "description": ["one\r\ntwo"], "else": ["x"], "price": []}
    assert of_form(form, GOOD) == replace(GOOD, title="Silk dress", description="one\ntwo")


@given(st.dictionaries(st.sampled_from([*vars(GOOD), "else"]), st.lists(st.text(max_size=30), max_size=2)))
def test_any_form_becomes_terms_or_names_its_fields(form: dict[str, list[str]]) -> None:
    with suppress(InvalidArgument, UnicodeError):  # half a character, which no message takes
        assert isinstance(terms_of(of_form(form, GOOD)), PresaleTerms)


def test_the_apis_fields_are_the_forms() -> None:
    error = InvalidArgument(
        ("terms.price.minor_units", "a"), ("terms.price.currency", "b"), ("terms.title", "c"), ("request_id", "d")
    )
    assert [field for field, _ in as_typed(error).violations] == ["price", "currency", "title", "request_id"]
