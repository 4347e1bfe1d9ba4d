"""The forms that settings have: numbers with their ranges, hosts, addresses, URLs, names.

It knows which values are legal and how each is written. It does not know which setting has which form.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import fsspec
from pydantic import AfterValidator, BeforeValidator, Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from contract.hosts import is_loopback
from services.runtime.addresses import bare, joined

DAY_S = 86_400.0
MOST_SIZE = 2**31 - 1  # of bytes or pixels; gRPC counts in 32 bits
MOST = 1_000_000
MOST_CHARACTERS = 4096  # of a value
DATABASES = ("sqlite", "postgresql")

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_WEB_PORTS = {"https": 443, "http": 80}
_WEB_REST = re.compile(r"[A-Za-z0-9_.:\[\]-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?")  # after the scheme
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def host(value: str) -> str:
    """A name, an IPv4 address or an IPv6 one; without brackets.

    Raises:
        ValueError: it is none of them.
    """
    text = bare(value)
    if ":" in text or text.rpartition(".")[2].isdecimal():
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError("must be a host: a name, an IPv4 address, or an IPv6 address such as ::1") from None
    elif not _NAME.fullmatch(text):
        raise ValueError("must be a host: a name, an IPv4 address, or an IPv6 address such as ::1")
    return text


def address(value: str) -> str:
    """host:port, an IPv6 host in brackets.

    Raises:
        ValueError: it is not.
    """
    before, colon, port = value.strip().rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) <= 65535:
        raise ValueError("must be host:port with a port from 1 to 65535")
    if ":" in before and bare(before) == before:
        raise ValueError("must have its IPv6 host in brackets, such as [::1]:50051")
    return joined(host(before), int(port))


def addresses(value: str) -> str:
    """Addresses, separated by commas; blanks around them do not matter.

    Raises:
        ValueError: one of them is none.
    """
    return ",".join(address(each) for each in value.split(","))


def database_url(value: str) -> str:
    """An SQLAlchemy URL of a database that the services know.

    Raises:
        ValueError: it is none.
    """
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError("must be an SQLAlchemy URL such as sqlite:///FILE or postgresql://USER@HOST/NAME") from None
    if url.get_backend_name() not in DATABASES:
        raise ValueError("must begin with " + " or ".join(f"{each}://" for each in DATABASES))
    if url.get_backend_name() == "sqlite" and url.host:
        raise ValueError("must have three slashes before a relative path and four before an absolute one")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("must name a file: a database in memory keeps nothing")
    if url.get_backend_name() == "sqlite" and ("uri" in url.query or str(url.database).startswith("file:")):
        raise ValueError("must name a file by its path, not by a URI of SQLite's own")
    if url.port is not None and not 0 < url.port <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    return value


def object_store_url(value: str) -> str:
    """An fsspec URL whose file system is installed.

    Raises:
        ValueError: it is none.
    """
    scheme, separator, rest = value.partition("://")
    if not separator or not scheme or not rest.strip():
        raise ValueError("must be an fsspec URL such as file://FOLDER or s3://BUCKET/FOLDER")
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ValueError("must have a scheme that fsspec knows, such as file:// or s3://") from None
    except ImportError as error:
        raise ValueError(f"must have a scheme whose package is installed: {error}") from None
    return value


def topic(value: str) -> str:
    """A name that Kafka takes.

    Raises:
        ValueError: it does not.
    """
    if not _TOPIC.fullmatch(value) or value in (".", ".."):
        raise ValueError("must be a Kafka topic: 1 to 249 letters, digits, dots, underscores and hyphens")
    return value


def folder(value: Path) -> Path:
    """A folder, which need not be there yet.

    Raises:
        ValueError: it is a file, or no folder can be called so.
    """
    try:
        is_another = value.exists() and not value.is_dir()
    except OSError as error:
        raise ValueError(f"must be a folder that can be looked at: {error.strerror}") from None
    if is_another:
        raise ValueError("must be a folder, and is a file")
    return value


def file(value: Path) -> Path:
    """A file, which need not be there yet.

    Raises:
        ValueError: it is a folder, or cannot be looked at.
    """
    try:
        is_folder = value.is_dir()
    except OSError as error:
        raise ValueError(f"must be a file that can be looked at: {error.strerror}") from None
    if is_folder:
        raise ValueError("must be a file, and is a folder")
    return value


def trust_domain(value: str) -> str:
    """The part of a SPIFFE ID that names whose it is.

    Raises:
        ValueError: SPIFFE does not allow it.
    """
    if not _TRUST_DOMAIN.fullmatch(value):
        raise ValueError("must be a SPIFFE trust domain: 1 to 255 of a to z, 0 to 9, dots, hyphens and underscores")
    return value


def web_url(value: str) -> str:
    """The beginning of a web address, https://HOST[:PORT][/PATH]; http:// of this machine alone.

    Returns:
        It as browsers write it: without a last slash, the scheme's own port and large letters in the host.

    Raises:
        ValueError: it is none.
    """
    value = value.strip()
    try:
        parts = urlsplit(value)
        host_of, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be a web address such as https://studio.example.com") from None
    if parts.scheme not in _WEB_PORTS or not host_of or not _WEB_REST.fullmatch(value.partition("://")[2]):
        raise ValueError("must be a web address such as https://studio.example.com")
    host(host_of)
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("must have a port from 1 to 65535")
    if parts.scheme == "http" and not is_loopback(host_of):
        raise ValueError("must begin with https://; http:// is for this machine alone")
    named = f"[{host_of}]" if ":" in host_of else host_of
    place = named if port in (None, _WEB_PORTS[parts.scheme]) else f"{named}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def traces_to(value: str) -> str:
    """A collector's web address without a path, or file://FOLDER; ValueError if it is neither."""
    if value.startswith("file://"):
        if not (named := value.removeprefix("file://").strip()):
            raise ValueError("must name a folder: file://FOLDER")
        folder(Path(named))
        return value
    address = web_url(value)
    if urlsplit(address).path:
        raise ValueError("must have no path: OTLP over gRPC has none")
    return address


def at_least(least: float) -> AfterValidator:
    """A number's own lower bound; a second one among pydantic's would replace the first."""

    def check(value: float) -> float:
        if value < least:
            raise ValueError(f"must be at least {least}")
        return value

    return AfterValidator(check)


def _said(value: object) -> object:
    """Without the blanks around it; an empty variable is not the same as none."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("must not be empty; unset the variable to have the default")
    if len(value) > MOST_CHARACTERS:
        raise ValueError(f"must have at most {MOST_CHARACTERS} characters, not {len(value)}")
    return value.strip()


Text = BeforeValidator(_said)
Seconds = Annotated[float, Field(gt=0, le=DAY_S), Text]
SecondsOrNone = Annotated[float, Field(ge=0, le=DAY_S), Text]
Count = Annotated[int, Field(ge=1, le=MOST), Text]
CountOrNone = Annotated[int, Field(ge=0, le=MOST), Text]
Size = Annotated[int, Field(ge=1, le=MOST_SIZE), Text]
SizeOrNone = Annotated[int, Field(ge=0, le=MOST_SIZE), Text]
Switch = Annotated[bool, Text]
Share = Annotated[float, Field(gt=0, le=1), Text]
Port = Annotated[int, Field(ge=0, le=65535), Text]
Host = Annotated[str, AfterValidator(host), Text]
Address = Annotated[str, AfterValidator(address), Text]
Addresses = Annotated[str, AfterValidator(addresses), Text]
DatabaseUrl = Annotated[str, AfterValidator(database_url), Text]
ObjectStoreUrl = Annotated[str, AfterValidator(object_store_url), Text]
Topic = Annotated[str, AfterValidator(topic), Text]
Folder = Annotated[Path, AfterValidator(folder), Text]
File = Annotated[Path, AfterValidator(file), Text]
TrustDomain = Annotated[str, AfterValidator(trust_domain), Text]
WebUrl = Annotated[str, AfterValidator(web_url), Text]
TracesTo = Annotated[str, AfterValidator(traces_to), Text]
Line = Annotated[str, Text]
