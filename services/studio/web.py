"""The application: every page, what all of them pass, and what an error shows."""

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contract import tracing
from services.runtime.errors import ServiceError
from services.studio.guard import GONE, OPEN, App, Guard
from services.studio.languages import noted
from services.studio.pages import design, entry, groups, items, keepsakes, orders, profile, rating, rounds, shop
from services.studio.visits import LogIn, Studio, anybody, path_of, to

STATIC = Path(__file__).parent / "static"
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
_MESSAGES = {
    HTTPStatus.BAD_REQUEST: noted("The studio cannot read this."),
    HTTPStatus.UNAUTHORIZED: noted("You are not logged in, or not any more."),
    HTTPStatus.FORBIDDEN: noted("You may not do this."),
    HTTPStatus.NOT_FOUND: noted("This is not there, or it is not yours."),
    HTTPStatus.METHOD_NOT_ALLOWED: noted("The studio cannot read this."),
    HTTPStatus.CONFLICT: noted("This was sent before with other content: load the page again."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: noted("This is too large."),
    HTTPStatus.TOO_MANY_REQUESTS: noted("Too much at once: try again in a moment."),
    HTTPStatus.SERVICE_UNAVAILABLE: noted("A part of the platform does not answer: try again in a moment."),
    HTTPStatus.GATEWAY_TIMEOUT: noted("A part of the platform does not answer: try again in a moment."),
}
_FAULT = noted("The studio made a mistake.")
_YEAR_S = 31_536_000


class _Unchanging(StaticFiles):
    """Files whose path changes with their content."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        answer = super().file_response(*arguments, **named)
        answer.headers["cache-control"] = f"public, max-age={_YEAR_S}, immutable"
        return answer


def static_path() -> str:
    """Where the browser finds what lies in static/; another path for other content."""
    found = hashlib.sha256()
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            found.update(f"{file.relative_to(STATIC)}\0".encode() + file.read_bytes())
    return f"/static/{found.hexdigest()[:12]}"


def application(studio: Studio) -> App:
    """What a web server runs."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.studio = studio
    for pages in (entry, design, rounds, groups, keepsakes, profile, items, shop, orders, rating):
        app.include_router(pages.router)
    app.mount(studio.static_path, _Unchanging(directory=STATIC))
    app.add_exception_handler(LogIn, _log_in)
    app.add_exception_handler(ServiceError, _refused)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(RequestValidationError, _not_read)
    app.add_exception_handler(UnicodeError, _not_text)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _fault)
    return Guard(app, studio.public_url, studio.metrics)


async def _log_in(request: Request, _: Exception) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        back = path_of(request)
        return to(f"/welcome?{urlencode({'back': back})}" if back != "/" else "/welcome")
    return await _problem(request, HTTPStatus.UNAUTHORIZED, "")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    status = _STATUSES.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    answer = await _problem(request, status, error.message)
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return answer


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _problem(request, HTTPStatus(error.status_code), str(error.detail))


async def _not_read(request: Request, error: Exception) -> Response:
    """An id that is none names nothing; of anything else it is said that it cannot be read."""
    assert isinstance(error, RequestValidationError)
    is_path = all(each["loc"][0] == "path" for each in error.errors())
    return await _problem(request, HTTPStatus.NOT_FOUND if is_path else HTTPStatus.BAD_REQUEST, "")


async def _not_text(request: Request, _: Exception) -> Response:
    """Half a character, which no message and no database takes."""
    return await _problem(request, HTTPStatus.BAD_REQUEST, "")


async def _gone(request: Request, _: Exception) -> Response:
    """The browser left while it sent a form."""
    return Response(status_code=GONE)


async def _fault(request: Request, _: Exception) -> Response:
    """The web server logs the error itself."""
    return await _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "")


async def _problem(request: Request, status: HTTPStatus, problem: str) -> Response:
    """A page that says what went wrong, in the platform's own words too, and the trace id to ask for help with."""
    try:
        visit = await anybody(request)
    except ServiceError:  # the database may be what does not answer
        visit = None
    if visit is None:
        return Response(_MESSAGES.get(status, _FAULT), status_code=status, media_type="text/plain")
    said = visit.language.say(_MESSAGES.get(status, _FAULT))
    is_open = request.url.path.startswith(OPEN)  # nobody logs in there
    return visit.show(
        "problem.html",
        status,
        session=None if is_open else visit.session,
        start="" if is_open else "/",
        code=status.value,
        said=said,
        problem=problem,
        trace_id=tracing.trace_id(),
    )
