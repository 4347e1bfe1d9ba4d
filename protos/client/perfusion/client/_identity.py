"""Who the client is: its certificate, and the token that names the merchants it acts for, in a folder.

    tls.crt, tls.key   the client's certificate (and chain) and key, PEM
    ca.crt             the authority of the services' certificates, PEM
    token              a JWT for the merchants; read again when the file changes, so a new one needs no new client

It knows files and gRPC's credentials. It does not know what a certificate or a token says.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import grpc


class Identity:
    """The identity in a folder, such as `build/local/client` of the platform on one machine.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the token's file holds none.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._token = ""
        self.token()

    def token(self) -> str:
        """The token as it is now."""
        file = self._folder / "token"
        found = os.stat(file)
        with self._lock:
            if self._seen != (seen := (found.st_mtime_ns, found.st_ino, found.st_size)):
                token = file.read_bytes().strip()
                if not re.fullmatch(rb"[!-~]+", token):
                    raise ValueError(f"{file} holds no token: one line of ASCII without blanks")
                self._token, self._seen = token.decode(), seen
            return self._token

    def credentials(self) -> grpc.ChannelCredentials:
        """Of a channel: the certificate as it is now, and in every call the token of its time."""
        authority, key, certificate = ((self._folder / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
        return grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(authority, key, certificate), grpc.metadata_call_credentials(_Bearer(self))
        )


class _Bearer(grpc.AuthMetadataPlugin):
    """Puts the token into a call's metadata."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._identity.token()
        except (OSError, ValueError) as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)
