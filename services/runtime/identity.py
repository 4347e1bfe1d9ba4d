"""Who a process is to others, and how it tells who they are, by its settings: encrypted with certificates on both
sides, or in clear text on one machine.

It knows which settings go together. Certificates are read in certificates.py, callers told in callers.py; Kafka's are
its client's matter (contract/kafka_access.py).
"""

from dataclasses import dataclass
from pathlib import Path

from contract.hosts import is_loopback
from contract.kafka_access import KafkaAccess
from services.runtime.callers import Callers, Certified, Everybody, Tokens
from services.runtime.certificates import Certificates
from services.runtime.clock import now_us
from services.runtime.settings import KafkaAddress, ProcessSettings, RuntimeSettings


class IdentityError(ValueError):
    """The settings leave open who is who; the message names them."""


@dataclass(frozen=True)
class Identity:
    """`certificates` is None in clear text."""

    certificates: Certificates | None
    callers: Callers


def certificates_of(settings: ProcessSettings, client_authority: Path | None = None) -> Certificates | None:
    """This process's certificate by the settings; None is clear text.

    Raises:
        IdentityError: there is no certificate and clear text is not asked for, or asked for where others can connect.
        CertificateError: a certificate is set and cannot be used.
    """
    if settings.certificates is not None:
        if settings.clear_text:
            raise IdentityError("PERFUSION_CLEAR_TEXT is for a process without PERFUSION_CERTIFICATES")
        return Certificates(settings.certificates, client_authority)
    if not settings.clear_text:
        raise IdentityError(
            "PERFUSION_CERTIFICATES must name a folder with tls.crt, tls.key and ca.crt; for development on one "
            "machine PERFUSION_CLEAR_TEXT=true with PERFUSION_HOST=127.0.0.1 does without"
        )
    if not is_loopback(settings.host):
        raise IdentityError(
            f"PERFUSION_CLEAR_TEXT is for one machine: PERFUSION_HOST must be 127.0.0.1, ::1 or localhost, "
            f"not {settings.host}"
        )
    return None


def identity_of(settings: RuntimeSettings) -> Identity:
    """Of a gRPC service, by the settings; raises as `certificates_of`."""
    certificates = certificates_of(settings, settings.client_authority)
    if certificates is None:
        return Identity(None, Everybody())
    keys = settings.token_keys
    tokens = None if keys is None else Tokens(keys, settings.token_issuer, now_us)
    return Identity(certificates, Certified(settings.trust_domain, certificates, tokens))


def read_secret(setting: str, file: Path) -> str:
    """The secret in a file that a setting names, by its name in the environment; IdentityError if it is not there."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise IdentityError(f"{setting}: {file} cannot be read: {error.strerror}") from error


def kafka_of(settings: RuntimeSettings) -> KafkaAccess:
    """How a service with the settings of KafkaAddress reaches Kafka: in clear text only where it serves so, too.

    Raises:
        KafkaAccessError: a certificate is set and cannot be used; or there is none, and brokers on other machines.
    """
    assert isinstance(settings, KafkaAddress)
    return KafkaAccess(settings.kafka_bootstrap, settings.kafka_certificates or settings.certificates)
