"""How a process reaches Kafka: at which addresses, and with which certificate it says who it is.

A folder holds `tls.crt` (certificate and chain), `tls.key` and `ca.crt` (the authority of the brokers), PEM, by the
names of a Kubernetes TLS secret. Each new connection reads the files, so renewed ones need no new start; the brokers'
names are checked. Without a folder everything is in clear text, which brokers of this machine alone are spoken to in.

It knows the settings of kafka-python by their names, and none of its code. What a part may do there: topics.RIGHTS.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import InputError
from contract.hosts import is_loopback

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
VARIABLE = "PERFUSION_KAFKA_CERTIFICATES"  # names the folder


class KafkaAccessError(InputError):
    """Kafka cannot be reached in this way; the message says what to give."""


@dataclass(frozen=True)
class KafkaAccess:
    """The brokers, and the folder with this process's certificate; None is clear text.

    Raises:
        KafkaAccessError: there is no certificate and not all brokers are on this machine, or one that cannot be used.
    """

    bootstrap: str  # host:port, by commas
    certificates: Path | None = None

    def __post_init__(self) -> None:
        if self.certificates is not None:
            _check(self.certificates)
        elif others := [each for each in self.addresses if not is_loopback(each.rpartition(":")[0])]:
            raise KafkaAccessError(
                f"Kafka at {others[0]} is not of this machine, and spoken to with a certificate alone: "
                f"{VARIABLE} or --kafka-certificates must name a folder with {CERTIFICATE}, {KEY} and {AUTHORITY}"
            )

    @property
    def addresses(self) -> list[str]:
        """Each host:port."""
        return self.bootstrap.split(",")

    @property
    def config(self) -> dict[str, Any]:
        """Of every client of kafka-python."""
        if (folder := self.certificates) is None:
            return {"bootstrap_servers": self.addresses}
        return {
            "bootstrap_servers": self.addresses,
            "security_protocol": "SSL",
            "ssl_cafile": str(folder / AUTHORITY),
            "ssl_certfile": str(folder / CERTIFICATE),
            "ssl_keyfile": str(folder / KEY),
        }

    @property
    def doubt(self) -> str:
        """What else may be wrong where brokers do not answer: they close a connection that they do not believe."""
        if self.certificates is None:
            return f"if it wants a certificate, {VARIABLE} or --kafka-certificates names its folder"
        return f"if it runs, it may not know the authority of {self.certificates / CERTIFICATE}"


def _check(folder: Path) -> None:
    try:
        trusting = ssl.create_default_context(cafile=str(folder / AUTHORITY))
        trusting.load_cert_chain(str(folder / CERTIFICATE), str(folder / KEY), password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        needed = f"{CERTIFICATE}, {KEY} and {AUTHORITY} (PEM) that fit together"
        raise KafkaAccessError(f"{folder} must hold {needed}: {error.strerror or error}") from error


def _no_password() -> str:
    """In place of a question at the terminal."""
    return ""
