"""The authority of one cluster on this machine: it signs certificates of parts and of clients, and clients' tokens.

In Kubernetes cert-manager does the first, and whoever knows the clients the second. Files have the names of a
Kubernetes TLS secret, so that services and clients read them alike:

    authority/                 its own certificates and keys: one for parts, one for clients
    certificates/NAME/         tls.crt, tls.key, ca.crt of a part, spiffe://perfusion/service/NAME
    certificates/clients.crt   the authority of clients' certificates
    certificates/tokens.json   the public keys (JWKS) by which services check tokens
    client/                    the same of a client, spiffe://perfusion/client/developer, and its token for everybody
    studio/                    the same of the merchant's page, spiffe://perfusion/client/studio
    payments/                  the secrets of the provider of payments: key, webhook-secret

It knows X.509 and JWTs; not which parts there are. Asked again, it keeps what is valid for long enough and renews the
rest in place: what runs takes it from the next connection on.
"""

import base64
import ipaddress
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jwt
from joserfc.jwk import OKPKey

from deploy.local.layout import CLIENT

DOMAIN, ISSUER, AUDIENCE, EVERYBODY = "perfusion", "perfusion", "perfusion", "*"
DEVELOPER, STUDIO = "client/developer", "client/studio"
AUTHORITY_DAYS, CERTIFICATE_DAYS, RENEWED_DAYS = 3650, 90, 30  # renewed when fewer days are left
_LOOPBACK = ("127.0.0.1", "::1")
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Authority:
    """The authority of the cluster whose files lie in `home`.

    In these `domains`, too, a part is called by its name, and at these `addresses` beside this machine's own.
    """

    home: Path
    domains: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def clients(self) -> Path:
        """The authority of clients' certificates."""
        return self.home / "certificates" / "clients.crt"

    @property
    def client(self) -> Path:
        """What a client on this machine calls with."""
        return self.home / CLIENT

    @property
    def studio(self) -> Path:
        """What the merchant's page calls with."""
        return self.home / "studio"

    @property
    def tokens(self) -> Path:
        """The public keys by which tokens are checked."""
        return self.home / "certificates" / "tokens.json"

    def folder(self, part: str) -> Path:
        """A part's certificate."""
        return self.home / "certificates" / part

    def prepare(self, parts: Sequence[str], *, anew: bool = False) -> None:
        """Issues what is missing or ends soon, or everything `anew`; the authority's own keys stay."""
        for part in parts:
            self._prove(self.folder(part), f"service/{part}", anew)
        _keep(self.clients, self._own("clients")[0].public_bytes(_PEM))
        for folder, client in ((self.client, DEVELOPER), (self.studio, STUDIO)):
            self._prove(folder, client, anew)
            token = folder / "token"
            if _may_be_replaced(token, anew):
                _write(token, self.token(None, CERTIFICATE_DAYS * 24, client).encode(), secret=True)
        for file, kind in ((self.login_secret, ""), (self.payment_key, "sk_test_"), (self.webhook_secret, "whsec_")):
            if not file.exists():
                _write(file, f"{kind}{secrets.token_urlsafe(32)}".encode(), secret=True)

    @property
    def login_secret(self) -> Path:
        """The studio's secret at who tells it who logs in."""
        return self.studio / "login-secret"

    @property
    def payments(self) -> Path:
        """The folder of the provider of payments."""
        return self.home / "payments"

    @property
    def payment_key(self) -> Path:
        """With which the provider of payments is called."""
        return self.payments / "key"

    @property
    def webhook_secret(self) -> Path:
        """By which the provider of payments signs its events."""
        return self.payments / "webhook-secret"

    def token(self, merchants: Sequence[str] | None, hours: float, client: str = DEVELOPER) -> str:
        """A token for a client that acts for these merchants; None is all."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": client,
            "iat": now,
            "exp": now + round(hours * 3600),
            "merchants": EVERYBODY if merchants is None else list(merchants),
        }
        key = self._token_key()
        return jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims, key, algorithms=["Ed25519"])

    def _token_key(self) -> OKPKey:
        file = self.home / "authority" / "tokens.json"
        if not file.exists():
            made = OKPKey.generate_key("Ed25519", auto_kid=True)
            _write(file, json.dumps(made.as_dict(private=True)).encode(), secret=True)
        key = OKPKey.import_key(json.loads(file.read_bytes()))
        _keep(self.tokens, json.dumps({"keys": [key.as_dict(private=False)]}).encode())
        return key

    def _prove(self, folder: Path, name: str, anew: bool) -> None:
        """A certificate for a program of this name."""
        file, is_client = folder / "tls.crt", name.startswith("client/")
        authority, signer = self._own("clients" if is_client else "ca")
        if not anew and _is_good(file, authority):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([] if is_client else [ExtendedKeyUsageOID.SERVER_AUTH])]
        certificate = (
            _begun(_named(name), authority.subject, key, CERTIFICATE_DAYS, is_authority=False)
            .add_extension(x509.SubjectAlternativeName(self._names(name)), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        _write(folder / "ca.crt", self._own("ca")[0].public_bytes(_PEM))  # of those who are called
        _write(folder / "tls.key", _pem(key), secret=True)
        _write(file, certificate.public_bytes(_PEM))

    def _names(self, name: str) -> list[x509.GeneralName]:
        own = x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/{name}")
        if name.startswith("client/"):
            return [own]  # nobody calls it
        host = name.rpartition("/")[2].replace("_", "-")
        hosts = [host, *(f"{host}.{domain}" for domain in self.domains)]
        addresses = dict.fromkeys(map(ipaddress.ip_address, (*_LOOPBACK, *self.addresses)))
        return [own, *map(x509.DNSName, [*hosts, "localhost"]), *map(x509.IPAddress, addresses)]

    def _own(self, which: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate and key of the authority's, "ca" of parts or "clients", made when they are first needed."""
        certificate, private = (self.home / "authority" / f"{which}.{end}" for end in ("crt", "key"))
        if not certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = _named(f"PerFusion {self.home.name} {which}")
            made = _begun(name, name, key, AUTHORITY_DAYS, is_authority=True).sign(key, hashes.SHA256())
            _write(private, _pem(key), secret=True)
            _write(certificate, made.public_bytes(_PEM))
        signer = serialization.load_pem_private_key(private.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(certificate.read_bytes()), signer


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, *, is_authority: bool
) -> x509.CertificateBuilder:
    """What every certificate has; valid an hour before now, since clocks differ."""
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(days=RENEWED_DAYS)


def _is_good(file: Path, authority: x509.Certificate) -> bool:
    """Whether a certificate is there, of this authority, and does not end soon."""
    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
        found.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    return found.not_valid_after_utc > _soon()


def _may_be_replaced(file: Path, anew: bool) -> bool:
    """Whether there is no token, or one for every merchant that ends soon; one that is for some stays as it is."""
    try:
        payload = file.read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        ends, is_for_all = datetime.fromtimestamp(claims["exp"], UTC), claims["merchants"] == EVERYBODY
    except (OSError, ValueError, LookupError, TypeError):
        return True
    return is_for_all and (anew or ends < _soon())


def _keep(file: Path, content: bytes) -> None:
    """Writes what is not there yet, or is another."""
    if not file.exists() or file.read_bytes() != content:
        _write(file, content)


def write_secret(file: Path, content: bytes) -> None:
    """Whole or not at all, to be read by its owner alone."""
    _write(file, content, secret=True)


def _write(file: Path, content: bytes, *, secret: bool = False) -> None:
    """Whole or not at all; a secret can be read by its owner alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if secret else 0o644), "wb") as out:
        out.write(content)
    beside.replace(file)
