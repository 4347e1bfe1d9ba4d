"""Logins by OpenID Connect: the authorisation code flow with PKCE, by Authlib."""

import logging
from typing import Any, TypeGuard

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request

from contract import limits
from services.runtime.errors import Unauthenticated, Unavailable
from services.studio.ports import Issuer, Person

SCOPE = "openid profile"
MOST_CHARS = 256  # of a name

_log = logging.getLogger(__name__)


class OidcIssuer(Issuer):
    """Args:
    claim: of the ID token, with the merchants for whom the person may act.
    """

    def __init__(self, issuer: str, client_id: str, client_secret: str | None, claim: str, *, timeout_s: float) -> None:
        self._claim = claim
        self._client = OAuth().register(
            "issuer",
            client_id=client_id,
            client_secret=client_secret,
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": SCOPE, "code_challenge_method": "S256", "timeout": timeout_s},
        )

    async def address(self, login: dict[str, Any], back_to: str) -> str:
        try:
            answer = await self._client.authorize_redirect(_request(login, back_to), back_to)
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("login", "does not answer") from error
        return str(answer.headers["location"])

    async def person(self, login: dict[str, Any], back_at: str) -> Person:
        try:
            token = await self._client.authorize_access_token(_request(login, back_at))
        except httpx.HTTPError as error:
            raise Unavailable("login", "does not answer") from error
        except (httpx.InvalidURL, OAuthError, JoseError, ValueError, KeyError) as error:
            _log.warning("a login failed: %s", getattr(error, "error", "") or repr(error))
            raise Unauthenticated("the login was not completed: please log in again") from error
        claims = token.get("userinfo") or {}
        named = claims.get(self._claim)
        merchants = [named] if isinstance(named, str) else named
        if not _is_text(claims.get("sub")) or not isinstance(merchants, list) or not all(map(_is_user_id, merchants)):
            raise Unauthenticated(f"the login names nobody, or no merchants (claim {self._claim})")
        names = (claims.get("name"), claims.get("preferred_username"), claims["sub"])
        return Person(claims["sub"], next(filter(_is_text, names)), tuple(dict.fromkeys(merchants)))


def _is_text(value: object) -> TypeGuard[str]:
    """One that a page and a database can have."""
    return isinstance(value, str) and 0 < len(value) <= MOST_CHARS and value.isprintable()


def _is_user_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limits.MAX_USER_ID_CHARS and "\0" not in value


def _request(login: dict[str, Any], address: str) -> Request:
    """What Authlib reads: the query that the browser came back with, and a place to remember the login in."""
    url = httpx.URL(address)
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": url.scheme,
        "server": (url.host, url.port or (443 if url.scheme == "https" else 80)),
        "path": url.path,
        "query_string": url.query,
        "headers": [],
        "session": login,
    }
    return Request(scope)
