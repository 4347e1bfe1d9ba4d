"""Properties of every setting of every service: what is legal is taken as it is meant, all else is refused in a line.

An example of the first two is an environment with all settings of a service, so that 10,000 of each try some 300,000
legal values and as many illegal ones.
"""

import contextlib
import io
import os
import re
import string
from collections.abc import Callable
from typing import Any
from unittest import mock
from urllib.parse import quote, urlsplit

import fsspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from contract.hosts import is_loopback
from services.runtime import values
from services.runtime.addresses import joined
from services.runtime.settings import ProcessSettings, load
from tests.services.runtime import test_settings as table
from tests.services.runtime.test_settings import FORMS, SERVICES

BLANKS = st.sampled_from(["{}", "{} ", " {}", "\t{}\n"])
NAMES = st.text(string.ascii_lowercase + string.digits + "-_", max_size=9).map("a{}z".format) | st.sampled_from(
    ["shop", "shop-1.example.com", "a_b", "xn--bcher-kva.example", "localhost"]
)
HOSTS = NAMES | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
PORTS = st.integers(1, 65535)
ADDRESSES = st.builds(joined, HOSTS, PORTS)
WORDS = st.text(string.ascii_letters + string.digits + "äß☂ .-_", min_size=1, max_size=12).map(lambda w: f"a{w}z")
PATHS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
SECRETS = st.text(min_size=1, max_size=8).map(lambda text: quote(text, safe=""))
BRACKETED = NAMES | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map("[{}]".format)
WEB_PORTS = st.just("") | PORTS.map(":{}".format)
WEB_PATHS = st.sampled_from(["", "/", "/realms/shop", "/a%20b/~c/"])
LEGAL: dict[int, st.SearchStrategy[str]] = {  # by form
    id(table.HOST): HOSTS | st.ip_addresses(v=6).map("[{}]".format),
    id(table.ADDRESS): ADDRESSES,
    id(table.ADDRESSES): st.lists(ADDRESSES, min_size=1, max_size=3).map(",".join),
    id(table.DATABASE_URL): PATHS.map("sqlite:///{}".format)
    | st.builds("postgresql://{}:{}@{}/{}".format, NAMES, SECRETS, ADDRESSES, NAMES),
    id(table.OBJECT_STORE_URL): st.builds("{}://{}".format, st.sampled_from(["file", "memory", "s3"]), PATHS),
    id(table.TOPIC): st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=249).filter(
        lambda topic: topic not in (".", "..")
    ),
    id(table.FOLDER): PATHS.map("not/there/{}".format),
    id(table.FILE): PATHS.map("not/there/{}".format),
    id(table.DOMAIN): st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=255),
    id(table.LINE): WORDS,
    id(table.WEB_URL): st.builds("https://{}{}{}".format, BRACKETED, WEB_PORTS, WEB_PATHS)
    | st.builds("http://{}{}{}".format, st.sampled_from(["localhost", "127.0.0.1", "[::1]"]), WEB_PORTS, WEB_PATHS),
    id(table.TRACES_TO): st.builds("https://{}{}".format, BRACKETED, WEB_PORTS)
    | PATHS.map("file://not/there/{}".format),
    id(table.LEVEL): st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
    id(table.SWITCH): st.sampled_from(["true", "false", "1", "0"]),
}
# What the environment can hold: no NUL, and bytes that are no UTF-8 as single surrogates.
ANY = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"))
LONG = st.builds(lambda text, times: text * times, ANY, st.sampled_from([1, 100, 5000]))
EXAMPLES = settings.default.max_examples if settings.default else 0
# Each example is a whole environment: some are enough where they are the same at every run.
SOME = settings(max_examples=EXAMPLES if EXAMPLES > 100 else 50, suppress_health_check=list(HealthCheck))


def bounds(name: str) -> tuple[float, float] | None:
    """The smallest and the largest legal value of a number; None for what is no number."""
    form = FORMS[name]
    if id(form) in LEGAL:
        return None
    low, high = (0, 65535) if form is table.PORT else form[0][:2]
    return float(low), float(high)


def is_whole(name: str, kind: type[ProcessSettings]) -> bool:
    return kind.model_fields[name].annotation is int


def legal(name: str, kind: type[ProcessSettings]) -> st.SearchStrategy[str]:
    if (range_ := bounds(name)) is None:
        plain = LEGAL[id(FORMS[name])]
    else:
        low, high = range_
        numbers = st.integers(int(low), int(high)) if is_whole(name, kind) else st.floats(low, high)
        plain = numbers.map(str)
    return st.builds(str.format, BLANKS, plain)


def illegal(name: str, kind: type[ProcessSettings]) -> st.SearchStrategy[str]:
    listed = st.sampled_from(FORMS[name][1])
    if (range_ := bounds(name)) is None:
        return listed
    beyond = st.integers(int(range_[1]) + 1, 10**30) | st.integers(-(10**30), -1)
    return listed | beyond.map(str)


def changed(text: str, place: int, put: str, drop: int) -> str:
    """A legal value with something else in it."""
    place %= len(text) + 1
    return text[:place] + put + text[place + drop :]


def environments(of: Callable[[str, type[ProcessSettings]], st.SearchStrategy[str]]) -> Any:
    """A service, and a value for each of its settings."""
    return st.one_of(
        st.tuples(st.just(service), st.fixed_dictionaries({name: of(name, kind) for name in kind.model_fields}))
        for service, kind in SERVICES.items()
    )


ALL_LEGAL, ALL_ILLEGAL = environments(legal), environments(illegal)
NEARLY_LEGAL = st.one_of(
    st.tuples(
        st.just(service),
        st.just(name),
        st.builds(changed, legal(name, kind), st.integers(0, 60), ANY, st.integers(0, 3)) | LONG,
    )
    for service, kind in SERVICES.items()
    for name in kind.model_fields
)


def loaded(kind: type[ProcessSettings], given_: dict[str, str]) -> tuple[ProcessSettings | None, list[str]]:
    """The settings, or the lines that refuse them."""
    environment = {f"PERFUSION_{name.upper()}": value for name, value in given_.items()}
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    taken = None
    here = mock.patch.dict(os.environ, environment, clear=True)
    with here, contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        taken = load(kind)
    said.seek(0)
    return taken, said.read().split("\n")[:-1]


def check_lines(kind: type[ProcessSettings], lines: list[str], wrong: set[str]) -> None:
    """One printable line for each wrong setting: its name, what it must be, its meaning; never a URL."""
    assert len(lines) == len(wrong)
    for line in lines:
        name, _, rest = line.removeprefix("PERFUSION_").partition(": ")
        assert name.lower() in wrong and rest.startswith("must ") and line.isprintable() and len(line) < 600, line
        assert f"It is: {kind.model_fields[name.lower()].description}" in line
        assert "://x:secret" not in line


def check_taken(name: str, kind: type[ProcessSettings], text: str, taken: Any) -> None:
    """What was taken lies in the setting's range, and can be used."""
    form = FORMS[name]
    if (range_ := bounds(name)) is not None:
        low, high = range_
        assert type(taken) is (int if is_whole(name, kind) else float)
        assert 0 < taken <= high if form is table.SECONDS else low <= taken <= high
    elif form is table.HOST:
        assert values.address(f"[{taken}]:1" if ":" in taken else f"{taken}:1") and not re.search(r"[\s/]", taken)
    elif form in (table.ADDRESS, table.ADDRESSES):
        for each in taken.split(","):
            assert values.address(each) == each and 1 <= int(each.rpartition(":")[2]) <= 65535
    elif form is table.DATABASE_URL:
        assert make_url(taken).get_backend_name() in ("sqlite", "postgresql")
    elif form is table.OBJECT_STORE_URL:
        fsspec.get_filesystem_class(taken.partition("://")[0])
    elif form is table.TOPIC:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,249}", taken) and taken not in (".", "..")
    elif form is table.FILE:
        assert not taken.is_dir()
    elif form is table.DOMAIN:
        assert re.fullmatch(r"[a-z0-9._-]{1,255}", taken)
    elif form is table.WEB_URL:
        assert values.web_url(taken) == taken == taken.rstrip("/").strip() and not re.search(r"[\s?#]", taken)
        parts = urlsplit(taken)
        assert parts.username is None and parts.port not in (0, {"https": 443, "http": 80}[parts.scheme])
        assert parts.scheme == "https" or is_loopback(parts.hostname or "")
        given_ = urlsplit(text.strip())
        assert (parts.hostname, parts.path) == (given_.hostname, given_.path.rstrip("/"))
    elif form is table.TRACES_TO:
        assert values.traces_to(taken) == taken == taken.strip()
    elif form is table.LINE:
        assert taken == text.strip() != ""
    elif form is table.FOLDER:
        assert not taken.is_file()
    else:
        assert text.strip() in form[0] or isinstance(taken, bool) or taken in ("DEBUG", "INFO", "WARNING", "ERROR")


def test_every_form_has_a_strategy() -> None:
    assert {name for name in FORMS if bounds(name) is None and id(FORMS[name]) not in LEGAL} == set()


@SOME
@given(ALL_LEGAL)
def test_what_is_legal_is_taken_all_together(environment: tuple[str, dict[str, str]]) -> None:
    service, given_ = environment
    kind = SERVICES[service]
    taken, lines = loaded(kind, given_)
    assert taken is not None, lines
    for name, text in given_.items():
        check_taken(name, kind, text, getattr(taken, name))
        if bounds(name) is not None:
            assert getattr(taken, name) == float(text)


@SOME
@given(ALL_ILLEGAL)
def test_what_is_illegal_is_refused_all_together(environment: tuple[str, dict[str, str]]) -> None:
    service, given_ = environment
    kind = SERVICES[service]
    taken, lines = loaded(kind, given_)
    assert taken is None
    check_lines(kind, lines, set(given_))


@SOME
@given(NEARLY_LEGAL)
def test_any_other_text_is_taken_or_refused(setting: tuple[str, str, str]) -> None:
    service, name, text = setting
    kind = SERVICES[service]
    taken, lines = loaded(kind, {name: text})
    if taken is None:
        check_lines(kind, lines, {name})
    else:
        check_taken(name, kind, text, getattr(taken, name))
