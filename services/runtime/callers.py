"""Who calls: the platform's own parts by their certificate, clients by theirs and a token that names merchants.

A certificate says which program calls, by its SPIFFE ID: spiffe://DOMAIN/service/NAME is a part of the platform,
spiffe://DOMAIN/client/NAME a program of somebody else. A client says for whom it acts by a JWT in the call's metadata,
`authorization: Bearer …`, whose claims are

    sub        the client's name, as in its certificate ("client/shop"): a token is of no use to another client
    merchants  the user_ids that it may act for, or "*" for all
    iss, aud   who issued it, and "perfusion"
    exp        when it ends, in seconds since 1970; nbf and iat are optional

A client that acts for many merchants may narrow a call to one of them by the metadata `acting-for-bin` (a user_id in
UTF-8): a fault of the client's own then reaches no other merchant.

It knows certificates' names and JWTs. It does not know which method needs what.
"""

import json
import logging
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.runtime.certificates import Certificates, Marks, marks
from services.runtime.clock import Clock
from services.runtime.errors import PermissionDenied, Unauthenticated

AUDIENCE = "perfusion"
ALGORITHMS = ("EdDSA", "Ed25519", "ES256", "RS256", "PS256")  # none of them with a shared secret
EVERYBODY = "*"
ACTING_FOR = "acting-for-bin"
SERVICE, CLIENT = "service/", "client/"
_NAME = re.compile(r"(service|client)/[A-Za-z0-9][A-Za-z0-9_.-]{0,126}")
_LEEWAY_S = 30  # that two machines' clocks may differ
_MOST_REMEMBERED = 1024  # tokens that were checked; checking one costs a fifth of a millisecond

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """A program, and the merchants that it may act for: None is all."""

    name: str  # "service/generation", "client/shop"
    merchants: frozenset[str] | None

    @property
    def service(self) -> str:
        """The own name of a part of the platform, "" of another program."""
        return self.name.removeprefix(SERVICE) if self.name.startswith(SERVICE) else ""

    def acts_for(self, user_id: str) -> bool:
        return self.merchants is None or user_id in self.merchants


DEVELOPMENT = Caller("development", None)  # everybody, where nothing is encrypted
_caller: ContextVar[Caller] = ContextVar("caller", default=DEVELOPMENT)


def begin(caller: Caller) -> None:
    """The call being served is this caller's."""
    _caller.set(caller)


def acts_for(user_id: str) -> bool:
    """Whether the caller of the call being served may act for a merchant."""
    return _caller.get().acts_for(user_id)


def is_client() -> bool:
    """Whether the call being served is a client's."""
    return _caller.get().name.startswith(CLIENT)


def require(user_id: str, field: str = "user_id") -> None:
    """Raises PermissionDenied unless the caller of the call being served may act for the merchant."""
    if not acts_for(user_id):
        raise denied(field)


def denied(field: str) -> PermissionDenied:
    """The error for a merchant, named by a field of the request, that the caller may not act for."""
    return PermissionDenied(f"{field}: the caller's token does not name this merchant", field=field)


class _Context(Protocol):
    """What gRPC knows of a call."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...

    def invocation_metadata(self) -> Any: ...


class Callers(ABC):
    """Tells who calls."""

    @abstractmethod
    def name(self, context: _Context) -> str:
        """The caller's, by its certificate; raises Unauthenticated where that says nothing that can be believed."""

    @abstractmethod
    def of(self, name: str, context: _Context) -> Caller:
        """The caller of this name; raises Unauthenticated where its token says nothing that can be believed."""


class Everybody(Callers):
    """Without certificates every caller is taken for a developer at this machine."""

    def name(self, context: _Context) -> str:
        return DEVELOPMENT.name

    def of(self, name: str, context: _Context) -> Caller:
        return DEVELOPMENT


class Certified(Callers):
    """By the certificate, which gRPC has checked, and for a client by its token."""

    def __init__(self, domain: str, certificates: Certificates, tokens: "Tokens | None") -> None:
        self._prefix = f"spiffe://{domain}/"
        self._certificates = certificates
        self._tokens = tokens

    def of(self, name: str, context: _Context) -> Caller:
        if name.startswith(SERVICE):
            return Caller(name, None)
        if self._tokens is None:
            raise Unauthenticated(
                "this service takes no tokens: its operator has not said whose (PERFUSION_TOKEN_KEYS)"
            )
        merchants = self._tokens.merchants(_bearer(context), name)
        for key, value in context.invocation_metadata() or ():
            if key == ACTING_FOR:
                one = _named(bytes(value))
                merchants = one if merchants is None else one & merchants
        return Caller(name, merchants)

    def name(self, context: _Context) -> str:
        """A part's name counts only where the parts' authority has signed it."""
        told = context.auth_context()
        [*ids] = (str(each, "utf-8", "replace") for each in told.get("peer_spiffe_id", ()))  # none, or the only URI
        name = ids[0].removeprefix(self._prefix) if len(ids) == 1 and ids[0].startswith(self._prefix) else ""
        if not _NAME.fullmatch(name):
            raise Unauthenticated(
                f"the certificate must have one URI: {self._prefix}{SERVICE}NAME or {self._prefix}{CLIENT}NAME"
            )
        if name.startswith(SERVICE) and not self._certificates.signs(b"".join(told.get("x509_pem_cert", ()))):
            raise Unauthenticated(f"the authority of the platform's parts has not signed {name}")
        return name


class Tokens:
    """Checks tokens by the public keys (a JWKS) in a file, which is read again when it changes."""

    def __init__(self, keys: Path, issuer: str, clock: Clock) -> None:
        self._file = keys
        self._clock = clock
        self._claims = jwt.JWTClaimsRegistry(
            now=self._now_s,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": AUDIENCE},
            sub={"essential": True},
            exp={"essential": True},
        )
        self._seen: Marks | None = None
        self._keys: KeySet | None = None
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()  # claims of tokens whose signature was right

    def merchants(self, token: str, client: str) -> frozenset[str] | None:
        """Whom a client may act for by its token; None is all.

        Raises:
            Unauthenticated: the token is none, has ended, was issued by another or to another, or is malformed.
        """
        claims = self._signed(token)
        try:
            self._claims.validate(claims)
        except (JoseError, TypeError, ValueError) as error:
            raise Unauthenticated(f"the token is not valid: {_problem(error)}") from error
        if claims["sub"] != client:
            raise Unauthenticated(f"the token was issued to another client than {client}")
        named = claims.get("merchants")
        if named == EVERYBODY:
            return None
        if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
            raise Unauthenticated('the token\'s claim "merchants" must be a list of user_ids, or "*"')
        return frozenset(named)

    def _signed(self, token: str) -> dict[str, Any]:
        keys = self._current()
        if token in self._known:
            self._known.move_to_end(token)
            return self._known[token]
        try:
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Unauthenticated(f"the token is not valid: {_problem(error)}") from error
        self._known[token] = claims
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return claims

    def _current(self) -> KeySet:
        """The keys as last read; a file that is gone or holds none is noted once, and the keys before stay in use."""
        if (seen := marks(self._file)) != self._seen:
            self._seen = seen
            try:
                self._keys = KeySet.import_key_set(json.loads(self._file.read_bytes()))
                self._known.clear()  # what a key signed that is gone is valid no more
            except (OSError, ValueError, TypeError, KeyError, JoseError, RecursionError) as error:
                _log.warning("%s holds no JWKS: the keys before stay in use (%r)", self._file, error)
        if self._keys is None:
            raise Unauthenticated("this service has no keys to check a token with")
        return self._keys

    def _now_s(self) -> int:
        return self._clock() // 1_000_000


def _named(user_id: bytes) -> frozenset[str]:
    """The merchant to whom a client narrows its call; nobody where that is no text."""
    try:
        return frozenset({user_id.decode()})
    except UnicodeDecodeError:
        return frozenset()


def _bearer(context: _Context) -> str:
    given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    scheme, _, token = str(given[0]).partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("a client's call needs one token in its metadata: authorization: Bearer …")
    return token.strip()


def _problem(error: Exception) -> str:
    """What is wrong with a token, without a word of the token itself."""
    return str(getattr(error, "error", "") or type(error).__name__)
