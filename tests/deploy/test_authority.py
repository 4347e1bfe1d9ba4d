"""The local authority: what it issues, what it keeps, what it renews, and whom a token is for."""

import shutil
import time
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.local import authority as module
from deploy.local.authority import DEVELOPER, Authority
from services.runtime.callers import Tokens
from services.runtime.clock import now_us
from services.runtime.errors import Unauthenticated

PARTS = ["generation", "triton"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.prepare(PARTS)
    return made


def files(authority: Authority) -> dict[str, bytes]:
    return {str(file.relative_to(authority.home)): file.read_bytes() for file in authority.home.rglob("*.*")}


def names(folder: Path) -> list[str]:
    found = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    return found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )


def test_each_part_and_the_client_have_their_name(authority: Authority) -> None:
    for part in PARTS:
        assert names(authority.folder(part)) == [f"spiffe://perfusion/service/{part}"]
    assert names(authority.client) == ["spiffe://perfusion/client/developer"]
    signer = x509.load_pem_x509_certificate((authority.folder("triton") / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate((authority.folder("triton") / "tls.crt").read_bytes()).verify_directly_issued_by(
        signer
    )


def test_clients_have_an_authority_of_their_own_and_call_alone(authority: Authority) -> None:
    own = x509.load_pem_x509_certificate((authority.client / "tls.crt").read_bytes())
    own.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.clients.read_bytes()))
    uses = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    hosts = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert not hosts.get_values_for_type(x509.DNSName) and not hosts.get_values_for_type(x509.IPAddress)
    called = (authority.client / "ca.crt").read_bytes()
    assert called == (authority.folder("triton") / "ca.crt").read_bytes() != authority.clients.read_bytes()


def test_secrets_are_their_owners_alone(authority: Authority) -> None:
    others = ["client/token", "studio/token", "studio/login-secret", "authority/tokens.json"]
    others += ["payments/key", "payments/webhook-secret"]
    secrets = [*authority.home.rglob("*.key"), *(authority.home / name for name in others)]
    assert len(secrets) == 12
    assert {file.stat().st_mode & 0o077 for file in secrets} == {0}
    assert b'"d"' not in authority.tokens.read_bytes()  # the private half


def test_what_is_valid_is_kept_and_what_ends_soon_renewed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(authority)
    authority.prepare(PARTS)
    assert files(authority) == before
    monkeypatch.setattr(module, "RENEWED_DAYS", module.CERTIFICATE_DAYS + 1)
    authority.prepare(PARTS)
    changed = {name for name, content in files(authority).items() if content != before[name]}
    assert changed == {f"{folder}/{end}" for folder in ("client", "studio", *(f"certificates/{part}" for part in PARTS))
                       for end in ("tls.crt", "tls.key")}  # fmt: skip


def test_a_renewal_anew_keeps_the_authority(authority: Authority) -> None:
    before, token = files(authority), (authority.client / "token").read_text()
    time.sleep(1.1)  # tokens count seconds
    authority.prepare(PARTS, anew=True)
    kept = {name for name, content in files(authority).items() if content == before[name]}
    assert "authority/ca.key" in kept and "certificates/tokens.json" in kept
    assert not any(name.endswith(("tls.key", "tls.crt")) for name in kept)
    assert (authority.client / "token").read_text() != token


def test_whom_a_token_is_for(authority: Authority) -> None:
    tokens = Tokens(authority.tokens, "perfusion", now_us)
    assert tokens.merchants((authority.client / "token").read_text(), DEVELOPER) is None
    assert tokens.merchants(authority.token(["a", "b"], 1), DEVELOPER) == {"a", "b"}
    assert tokens.merchants(authority.token([], 1), DEVELOPER) == frozenset()
    with pytest.raises(Unauthenticated, match="issued to another client"):
        tokens.merchants(authority.token(None, 1, "client/shop"), DEVELOPER)


def test_grpc_takes_what_it_writes(authority: Authority) -> None:
    content = [(authority.client / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    assert isinstance(grpc.ssl_channel_credentials(*content), grpc.ChannelCredentials)


def test_a_token_for_some_merchants_is_never_replaced_by_one_for_all(authority: Authority) -> None:
    token = authority.client / "token"
    token.write_text(some := authority.token(["store-1"], 1))
    authority.prepare(PARTS)
    authority.prepare(PARTS, anew=True)
    assert token.read_text() == some


@pytest.mark.parametrize("broken", ["", "a.b.c", "not a token", "é"])
def test_what_cannot_be_read_is_made_again(authority: Authority, broken: str) -> None:
    (authority.client / "token").write_text(broken)
    (authority.folder("triton") / "tls.crt").write_text(broken)
    authority.prepare(PARTS)
    assert (
        Tokens(authority.tokens, "perfusion", now_us).merchants((authority.client / "token").read_text(), DEVELOPER)
        is None
    )
    assert names(authority.folder("triton")) == ["spiffe://perfusion/service/triton"]


def test_an_authority_that_was_lost_is_made_again_with_all_that_it_signs(authority: Authority) -> None:
    shutil.rmtree(authority.home / "authority")
    authority.prepare(PARTS)
    signer = x509.load_pem_x509_certificate((authority.folder("triton") / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate((authority.folder("triton") / "tls.crt").read_bytes()).verify_directly_issued_by(
        signer
    )
    tokens = Tokens(authority.tokens, "perfusion", now_us)
    assert tokens.merchants(authority.token(["a"], 1), DEVELOPER) == {"a"}
