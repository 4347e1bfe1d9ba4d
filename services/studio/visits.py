"""One request of one person: who, for which merchant, in which language, and what is shown.

Pages ask for a Visit; one that changes something asks for a Sent, whose form came from a page of this session.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from perfusion.v1.release_pb2 import ReleaseInfo
from starlette.datastructures import FormData, UploadFile

from services.runtime.errors import InvalidArgument, PermissionDenied
from services.studio.catalogue import Catalogue
from services.studio.entering import Entering
from services.studio.following import Following
from services.studio.languages import NAMES, Language, Words, language, preferred
from services.studio.metrics import StudioMetrics
from services.studio.ports import Issuer, Items, Keepsakes, Platform, Session, Shops, Studies
from services.studio.seeing import Sightings
from services.studio.showing import Pictures

HERE = Path(__file__).parent
LANGUAGE_COOKIE = "language"
YEAR_S = 365 * 86_400
MOST_FIELDS = 200


@dataclass(frozen=True)
class Studio:
    """What the pages work with."""

    public_url: str
    static_path: str  # changes with what lies there
    platform: Platform
    catalogue: Catalogue
    following: Following
    pictures: Pictures
    keepsakes: Keepsakes
    entering: Entering
    issuer: Issuer
    metrics: StudioMetrics
    max_readers: int
    items: Items
    shops: Shops
    studies: Studies
    sightings: Sightings
    payment_methods: tuple[str, ...]  # that a buyer chooses from; none: orders cannot be paid
    templates: Environment = field(
        default_factory=lambda: Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
    )

    @property
    def is_encrypted(self) -> bool:
        return self.public_url.startswith("https:")

    @property
    def cookie(self) -> str:
        """The session's: no other host may set it, where the connection is encrypted."""
        return "__Host-session" if self.is_encrypted else "session"

    @property
    def buyer_cookie(self) -> str:
        """A buyer's, in the same way."""
        return "__Host-buyer" if self.is_encrypted else "buyer"


class LogIn(Exception):
    """Nobody has logged in here, or too long ago."""


@dataclass(frozen=True)
class Visit:
    """A request, and who makes it; `session` None is nobody known."""

    request: Request
    studio: Studio
    session: Session | None
    language: Language

    @property
    def user_id(self) -> str:
        """The merchant for whom the person acts."""
        assert self.session is not None
        return self.session.user_id

    @cached_property
    def _shown(self) -> dict[str, Any]:
        return {
            "_": self.language.say,
            "language": self.language,
            "languages": NAMES,
            "session": self.session,
            "static": self.studio.static_path,
            "here": path_of(self.request),
        }

    async def words(self) -> Words:
        """The release's words in the visit's language."""
        return await self.studio.catalogue.words(self.language.tag)

    async def release(self) -> ReleaseInfo:
        return await self.studio.catalogue.release()

    def show(self, template: str, status: int = 200, **content: Any) -> HTMLResponse:
        """A page."""
        text = self.studio.templates.get_template(template).render(self._shown | content)
        return HTMLResponse(text, status_code=status, headers={"vary": "Cookie, Accept-Language"})


@dataclass(frozen=True)
class Sent:
    """A form that a page of the visit's own session sent."""

    visit: Visit
    form: FormData

    def text(self, name: str) -> str:
        """A field's last value; "" without."""
        values = [value for value in self.form.getlist(name) if isinstance(value, str)]
        return values[-1] if values else ""

    def texts(self) -> Mapping[str, Sequence[str]]:
        """All fields' values."""
        found: dict[str, list[str]] = {}
        for name, value in self.form.multi_items():
            if isinstance(value, str):
                found.setdefault(name, []).append(value)
        return found

    async def file(self, name: str) -> bytes:
        """A file's content; empty without."""
        given = self.form.get(name)
        return await given.read() if isinstance(given, UploadFile) else b""


def studio_of(request: Request) -> Studio:
    found: Studio = request.app.state.studio
    return found


async def anybody(request: Request) -> Visit:
    """Whoever it is."""
    studio = studio_of(request)
    session = await studio.entering.session(request.cookies.get(studio.cookie, ""))
    return Visit(request, studio, session, _language(request))


async def known(request: Request) -> Visit:
    """Somebody who has logged in; sent to the login otherwise."""
    visit = await anybody(request)
    if visit.session is None or not visit.session.person:
        raise LogIn
    return visit


async def acting(request: Request) -> Visit:
    """Somebody who acts for a merchant."""
    visit = await known(request)
    if not visit.user_id:
        raise PermissionDenied(visit.language.say("This login names no merchant: ask who manages your account."))
    return visit


async def sent(visit: Annotated[Visit, Depends(acting)], request: Request) -> Sent:
    """A form of somebody who acts for a merchant; raises as `sent_by`."""
    return await sent_by(visit, request)


async def sent_by_known(visit: Annotated[Visit, Depends(known)], request: Request) -> Sent:
    """A form of somebody who has logged in; raises as `sent_by`."""
    return await sent_by(visit, request)


async def sent_by(visit: Visit, request: Request) -> Sent:
    """The form of a request.

    Raises:
        PermissionDenied: it does not come from a page of this session, or the page is of before another login.
        InvalidArgument: it is not UTF-8.
    """
    assert visit.session is not None
    return await form_of(visit, request, visit.session.form_token)


async def form_of(visit: Visit, request: Request, form_token: str) -> Sent:
    """The form of a request, whose page had the token; raises as `sent_by`."""
    charset = Message()
    charset["content-type"] = request.headers.get("content-type", "")
    if (charset.get_content_charset() or "utf-8") != "utf-8":
        raise InvalidArgument(("form", "must be UTF-8"))
    form = await request.form(max_files=1, max_fields=MOST_FIELDS)
    token = request.headers.get("form-token") or form.get("form_token")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode("utf-8", "replace"), form_token.encode()):
        raise PermissionDenied(
            visit.language.say("This page is older than your login, or of another merchant: load it again."),
            field="form_token",
        )
    return Sent(visit, form)


Anybody = Annotated[Visit, Depends(anybody)]
Known = Annotated[Visit, Depends(known)]
Acting = Annotated[Visit, Depends(acting)]
Form = Annotated[Sent, Depends(sent)]
KnownForm = Annotated[Sent, Depends(sent_by_known)]


def _language(request: Request) -> Language:
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return language(chosen if chosen in NAMES else preferred(request.headers.get("accept-language", "")))


def to(path: str) -> Response:
    """Another page of the studio's, by GET."""
    return RedirectResponse(path, status_code=303)


def path_of(request: Request) -> str:
    """What was asked for, with its query."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def own_path(path: str, otherwise: str = "/") -> str:
    """A path that a browser gave, if it is one of the studio's."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return otherwise
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if is_own and "\\" not in path and path.isprintable() else otherwise


def set_cookie(answer: Response, studio: Studio, name: str, value: str, max_age: int | None = None) -> None:
    """For the studio's pages alone, and not for scripts; without an age, until the browser is closed."""
    answer.set_cookie(name, value, max_age=max_age, path="/", secure=studio.is_encrypted, httponly=True, samesite="lax")


def login_path(back: str) -> str:
    """The login, and where to go after it."""
    return f"/login?back={quote(own_path(back), safe='')}"
