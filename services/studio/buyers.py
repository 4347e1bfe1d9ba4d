"""Buyers: nobody knows who they are. A browser has a random secret, and what others get is made of it, one way.

The items service gets `buyer_id`, the shop's figures `viewer_hash`, forms `form_token`; none of them tells the secret
or another of them, so that who reads orders or figures can neither see a buyer's page nor join the two. It knows no
HTTP.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from functools import cached_property

_SECRET_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Buyer:
    """Whoever is at a browser."""

    secret: str

    @cached_property
    def buyer_id(self) -> str:
        return self._made("buyer")

    @cached_property
    def viewer_hash(self) -> str:
        return self._made("viewer")

    @cached_property
    def form_token(self) -> str:
        return self._made("form")

    def _made(self, what: str) -> str:
        return hmac.digest(self.secret.encode(), what.encode(), "sha256").hex()


def known_buyer(secret: str) -> Buyer | None:
    """Of a browser's secret; None if it is none that we gave."""
    return Buyer(secret) if _SECRET.fullmatch(secret) else None


def new_buyer() -> Buyer:
    """Somebody who was never here."""
    return Buyer(secrets.token_urlsafe(_SECRET_BYTES))
