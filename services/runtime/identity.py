"""Who a process is to others, and how it tells who they are, by its settings: encrypted with certificates on both
sides, or in clear text on one machine.

It knows which settings go together. Certificates are read in certificates.py, callers told in callers.py; Kafka's are
its client's matter (contract/kafka_access.py).
"""

import ipaddress
from dataclasses import dataclass

from contract.kafka_access import KafkaAccess
from services.runtime.callers import Callers, Certified, Everybody, Tokens
from services.runtime.certificates import Certificates
from services.runtime.clock import now_us
from services.runtime.settings import KafkaAddress, RuntimeSettings


class IdentityError(ValueError):
    """The settings leave open who is who; the message names them."""


@dataclass(frozen=True)
class Identity:
    """`certificates` is None in clear text."""

    certificates: Certificates | None
    callers: Callers


def identity_of(settings: RuntimeSettings) -> Identity:
    """By the settings.

    Raises:
        IdentityError: there is no certificate and clear text is not asked for, or asked for where others can connect.
        CertificateError: a certificate is set and cannot be used.
    """
    if settings.certificates is not None:
        if settings.clear_text:
            raise IdentityError("PERFUSION_CLEAR_TEXT is for a process without PERFUSION_CERTIFICATES")
        keys = settings.token_keys
        tokens = None if keys is None else Tokens(keys, settings.token_issuer, now_us)
        certificates = Certificates(settings.certificates, settings.client_authority)
        return Identity(certificates, Certified(settings.trust_domain, certificates, tokens))
    if not settings.clear_text:
        raise IdentityError(
            "PERFUSION_CERTIFICATES must name a folder with tls.crt, tls.key and ca.crt; for development on one "
            "machine PERFUSION_CLEAR_TEXT=true with PERFUSION_HOST=127.0.0.1 does without"
        )
    if not _is_loopback(settings.host):
        raise IdentityError(
            f"PERFUSION_CLEAR_TEXT is for one machine: PERFUSION_HOST must be 127.0.0.1, ::1 or localhost, "
            f"not {settings.host}"
        )
    return Identity(None, Everybody())


def kafka_of(settings: RuntimeSettings) -> KafkaAccess:
    """How a service with the settings of KafkaAddress reaches Kafka: in clear text only where it serves so, too.

    Raises:
        KafkaAccessError: a certificate is set and cannot be used; or there is none, and brokers on other machines.
    """
    assert isinstance(settings, KafkaAddress)
    return KafkaAccess(settings.kafka_bootstrap, settings.kafka_certificates or settings.certificates)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
