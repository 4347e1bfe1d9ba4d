"""This process's certificate, as it is now: for the calls that it serves and for those that it makes.

A folder holds `tls.crt` (certificate and chain), `tls.key` and `ca.crt` (the authority of the platform's own parts),
PEM, by the names of a Kubernetes TLS secret. Clients have an authority of their own, in a file beside it: who calls may
be of either, who is called of the first alone. So what asks for no token, as Triton, has no client among its callers.

Whoever renews the files writes them anew: the next connection uses what is there then, and no process starts again. A
pair that does not fit together, as between the writing of two files, is not taken.

It knows X.509 and gRPC's credentials. It does not know what a caller may do.
"""

import logging
import math
import os
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

Marks = tuple[int, int, int]
AGAIN_S = 1.0  # from one look at files that cannot be used to the next
CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"

_log = logging.getLogger(__name__)


class CertificateError(ValueError):
    """A folder without a certificate that can be used; the message names the file."""


@dataclass(frozen=True)
class Pair:
    """What a folder held at one time, checked."""

    certificate: bytes
    key: bytes
    authority: bytes  # of those who are called
    callers: bytes  # of those who call
    expires: datetime  # the certificate, UTC


class Certificates:
    """The certificate in a folder. Safe between threads: gRPC asks from its own.

    Args:
        clients: a file with clients' authority; None where no client calls.

    Raises:
        CertificateError: there is none that can be used.
    """

    def __init__(self, folder: Path, clients: Path | None = None) -> None:
        self._folder = folder
        self._clients = clients
        self._lock = threading.Lock()
        self._seen = self._look()
        self._pair = _read(folder, clients)
        self._again_at = -math.inf

    def current(self) -> Pair:
        """The last one that could be used."""
        with self._lock:
            if (seen := self._look()) != self._seen and time.monotonic() > self._again_at:
                try:
                    self._pair = _read(self._folder, self._clients)
                    self._seen = seen
                except CertificateError as error:  # its writer may be at the second of three files
                    _log.warning("the certificate before stays in use: %s", error)
                    self._again_at = time.monotonic() + AGAIN_S
            return self._pair

    def signs(self, certificate: bytes) -> bool:
        """Whether the authority of the platform's parts has signed a certificate, PEM, itself."""
        return _is_signed(certificate, self.current().authority)

    def for_server(self) -> grpc.ServerCredentials:
        """Each connection is made with the certificate of its time, and its other end must show one, too."""
        shown = self.current()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if (now := self.current()) is shown:
                return None
            shown = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(_configuration(shown), renewed, True)  # type: ignore[arg-type] # None: as before

    def for_channel(self) -> grpc.ChannelCredentials:
        """Of the certificate as it is now: a channel that is to use a later one is opened anew."""
        now = self.current()
        return grpc.ssl_channel_credentials(now.authority, now.key, now.certificate)

    def _look(self) -> tuple[Marks, ...]:
        """What changes with the files."""
        files = [self._folder / name for name in (CERTIFICATE, KEY, AUTHORITY)]
        return tuple(marks(file) for file in (*files, *filter(None, [self._clients])))


def _configuration(pair: Pair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], pair.callers)


@lru_cache(maxsize=256)
def _is_signed(certificate: bytes, authority: bytes) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return False
    for signer in x509.load_pem_x509_certificates(authority):
        try:
            leaf.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def marks(file: Path) -> Marks:
    """What changes with a file: inode, size and time; zeros where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(folder: Path, clients: Path | None) -> Pair:
    certificate, key, authority = (_bytes_of(folder / name) for name in (CERTIFICATE, KEY, AUTHORITY))
    try:
        own = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError as error:
        raise CertificateError(f"{folder / CERTIFICATE} holds no PEM certificate: {error}") from error
    try:
        public = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{folder / KEY} holds no PEM key without password") from error
    if public != own.public_key():
        raise CertificateError(f"{folder / KEY} is not the key of {folder / CERTIFICATE}")
    of_clients = b"" if clients is None else _bytes_of(clients)
    for file, content in ((folder / AUTHORITY, authority), *([] if clients is None else [(clients, of_clients)])):
        try:
            x509.load_pem_x509_certificates(content)
        except ValueError as error:
            raise CertificateError(f"{file} holds no PEM certificate: {error}") from error
    return Pair(certificate, key, authority, authority + b"\n" + of_clients, own.not_valid_after_utc)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(f"{file} cannot be read: {error.strerror}") from error
