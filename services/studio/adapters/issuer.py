"""Logins by OpenID Connect: the authorisation code flow with PKCE, by Authlib."""

import logging
from typing import Any

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request

from services.runtime.errors import Unauthenticated, Unavailable
from services.studio.ports import Issuer, Person

SCOPE = "openid profile"

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
        except (OAuthError, JoseError, ValueError, KeyError) as error:
            _log.warning("a login failed: %s", getattr(error, "error", "") or repr(error))
            raise Unauthenticated("the login was not completed: please log in again") from error
        claims = token.get("userinfo") or {}
        named = claims.get(self._claim)
        merchants = [named] if isinstance(named, str) else named
        if not claims.get("sub") or not isinstance(merchants, list) or not all(isinstance(m, str) for m in merchants):
            raise Unauthenticated(f"the login names no merchants (claim {self._claim})")
        name = claims.get("name") or claims.get("preferred_username") or claims["sub"]
        return Person(str(claims["sub"]), str(name), tuple(dict.fromkeys(filter(None, merchants))))


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
