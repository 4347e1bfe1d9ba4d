"""The forms of settings: any text is either taken, and means the same when it is written again, or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.runtime import values

HOSTS = st.sampled_from(["::", "[::1]", "shop", "127.0.0.1", "1.2", "[", "]", "[]", ""]) | st.text(max_size=12)
PORTS = st.sampled_from(["0", "1", "65535", "65536", "٣", "²", ""]) | st.text(max_size=6)
URLS = st.sampled_from(["sqlite://", "sqlite:///", "postgresql://", "file://", "s3://", "memory://", "x://", ""])


def refused_or_stable(form: Callable[[str], str], text: str) -> None:
    try:
        taken = form(text)
    except ValueError as refused:
        taken, problem = "", str(refused)
    else:
        problem = ""
    assert problem.startswith("must ") or (not problem and form(taken) == taken)


@given(HOSTS)
@example("fe80::1%eth0")
@example("1.2.3.4\n")
def test_hosts(text: str) -> None:
    refused_or_stable(values.host, text)


@given(st.builds("{}:{}".format, HOSTS, PORTS))
def test_addresses(text: str) -> None:
    refused_or_stable(values.address, text)
    refused_or_stable(values.addresses, f"{text},{text}")


@given(st.builds("{}{}".format, URLS, st.text(max_size=20)))
@example("postgresql://h:٣/x")
@example("sqlite://[::1/x")
def test_urls(text: str) -> None:
    refused_or_stable(values.database_url, text)
    refused_or_stable(values.object_store_url, text)


@given(st.text(max_size=300))
def test_topics_and_folders(text: str) -> None:
    refused_or_stable(values.topic, text)
    refused_or_stable(lambda each: str(values.folder(Path(each))), text)


@pytest.mark.parametrize(
    ("given_", "taken"), [("[::1]:80", "[::1]:80"), (" shop:80 ", "shop:80"), ("[fe80::1]:9", "[fe80::1]:9")]
)
def test_an_address_is_written_one_way(given_: str, taken: str) -> None:
    assert values.address(given_) == taken
    assert values.addresses(f"{given_} , {given_}") == f"{taken},{taken}"
