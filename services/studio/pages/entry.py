"""The door: welcome, login, logout, which merchant one acts for, which language one reads."""

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import Response

from services.runtime.errors import Unauthenticated
from services.studio.languages import NAMES
from services.studio.visits import (
    LANGUAGE_COOKIE,
    YEAR_S,
    Anybody,
    Form,
    KnownForm,
    Studio,
    login_path,
    own_path,
    set_cookie,
    to,
)

router = APIRouter()
CALLBACK = "/login/callback"
_BACK = "back"  # among what a login remembers


@router.get("/welcome")
async def welcome(visit: Anybody, back: str = "/") -> Response:
    if visit.session is not None and visit.session.person:
        return to(own_path(back))
    return visit.show("welcome.html", login=login_path(back))


@router.get("/login")
async def log_in(visit: Anybody, back: str = "/") -> Response:
    studio, session = visit.studio, visit.session
    if session is not None and session.person:
        return to(own_path(back))
    login: dict[str, Any] = {}
    address = await studio.issuer.address(login, studio.public_url + CALLBACK)
    login[_BACK] = own_path(back)
    answer = to(address)
    if session is not None:  # begun in another tab, too
        await studio.entering.go_on(session, login)
    else:
        _remember(answer, studio, await studio.entering.open(login))
    return answer


@router.get(CALLBACK)
async def logged_in(visit: Anybody) -> Response:
    studio, session = visit.studio, visit.session
    if session is None or session.person or not session.login:
        raise Unauthenticated(visit.language.say("This login was not begun here, or too long ago: log in again."))
    login = dict(session.login)
    back = own_path(login.pop(_BACK, "/"))
    query = visit.request.url.query
    person = await studio.issuer.person(login, f"{studio.public_url}{CALLBACK}?{query}")
    answer = to(back)
    _remember(answer, studio, await studio.entering.enter(session, person))
    return answer


@router.post("/logout")
async def log_out(sent: KnownForm) -> Response:
    visit = sent.visit
    assert visit.session is not None
    await visit.studio.entering.leave(visit.session)
    answer = to("/welcome")
    answer.delete_cookie(visit.studio.cookie, path="/", secure=visit.studio.is_encrypted, httponly=True)
    answer.headers["clear-site-data"] = '"cache", "storage"'
    return answer


@router.post("/merchant")
async def act_for(sent: Form) -> Response:
    visit = sent.visit
    assert visit.session is not None
    await visit.studio.entering.act_for(visit.session, sent.text("user_id"))
    return to("/")


@router.get("/language/{tag}")
async def speak(tag: str, visit: Anybody, back: str = "/") -> Response:
    answer = to(own_path(back))
    if tag in NAMES:
        set_cookie(answer, visit.studio, LANGUAGE_COOKIE, quote(tag), YEAR_S)
    return answer


def _remember(answer: Response, studio: Studio, secret: str) -> None:
    set_cookie(answer, studio, studio.cookie, secret)
