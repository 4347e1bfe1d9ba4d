"""One line for one record, whatever a client put into it."""

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.logs import LONGEST, JsonFormatter

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=6,
)


def line_of(**said: object) -> str:
    record = logging.makeLogRecord({"msg": "made %s", "args": ("a group",), "levelname": "INFO", "name": "here"})
    record.__dict__.update(said)
    return JsonFormatter("generation").format(record)


@given(VALUES)
def test_any_value_makes_one_line_of_printable_ascii_that_is_json(value: object) -> None:
    line = line_of(given=value)
    assert all(" " <= character <= "~" for character in line)
    json.loads(line, parse_constant=lambda name: 1 / 0)  # JSON has no NaN


def test_what_is_long_is_cut_and_says_so() -> None:
    line = json.loads(line_of(prompt="x" * 10**6, many=list(range(10**5)), deep={"a": "y" * 10**6}))
    assert line["prompt"] == "x" * LONGEST + "… (1000000 characters)"
    assert len(line["many"]) == 50 and len(line["deep"]["a"]) < LONGEST + 40


def test_a_long_traceback_is_cut_too() -> None:
    record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, ValueError("x" * 10**6), None)})
    assert len(JsonFormatter("generation").format(record)) < 30_000
