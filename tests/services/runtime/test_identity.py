"""Who a process is, by its settings; and a real server that asks each caller who it is, while certificates change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from perfusion.v1.ranking_service_pb2 import RankRequest
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from prometheus_client import CollectorRegistry

from deploy.local.authority import Authority, _begun, _named, _pem
from services.runtime import certificates as certificates_module
from services.runtime.callers import ACTING_FOR
from services.runtime.calls import Shares
from services.runtime.certificates import CertificateError, Certificates
from services.runtime.clients import open_channel
from services.runtime.errors import ResourceExhausted
from services.runtime.identity import IdentityError, identity_of
from services.runtime.settings import KafkaAddress, ProcessSettings, RuntimeSettings
from services.runtime.upkeep import Upkeep
from tests.services.running import LOCAL, failing
from tests.services.runtime.scripted import server_doing


class KafkaReader(ProcessSettings, KafkaAddress):
    """Of a process that reads events."""


OWN_POOL = [("grpc.use_local_subchannel_pool", 1)]  # so that each channel makes a connection


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.prepare(["ranking", "generation", "feedback"])
    return made


@asynccontextmanager
async def ranking(authority: Authority, **settings: Any) -> AsyncIterator[int]:
    """A server that knows its callers; its port."""
    encrypted = {"clear_text": False, "certificates": authority.folder("ranking")}
    encrypted |= {"client_authority": authority.clients, "token_keys": authority.tokens}
    server = server_doing(**(encrypted | settings))
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


def channel(port: int, folder: Path) -> grpc.aio.Channel:
    """By the certificate in a folder, without a token."""
    credentials = Certificates(folder).for_channel()
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=OWN_POOL)


async def rank(on: grpc.aio.Channel, user_id: str, token: str | None = None, *acting_for: bytes) -> Any:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    metadata += [(ACTING_FOR, each) for each in acting_for]
    return await RankingServiceStub(on).Rank(
        RankRequest(user_id=user_id, prompt="dress"), metadata=metadata, timeout=20
    )


async def test_a_client_acts_for_the_merchants_of_its_token_alone(authority: Authority) -> None:
    async with ranking(authority) as port, channel(port, authority.client) as client:
        assert (await rank(client, "a", authority.token(["a", "b"], 1))).release == 1
        assert (await rank(client, "any", authority.token(None, 1))).release == 1
        async with failing() as failure:
            await rank(client, "c", authority.token(["a", "b"], 1))
        assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert failure.message.startswith("user_id: ") and not failure.retryable


async def test_a_client_narrows_a_call_to_one_merchant(authority: Authority) -> None:
    everybody, one = authority.token(None, 1), authority.token(["a"], 1)
    refused = [  # whose token, for whom it acts, whom it asks about
        (everybody, [b"a"], "b"),
        (one, [b"b"], "b"),
        (one, [b"b"], "a"),
        (everybody, [b"\xff"], "a"),
        (everybody, [b"\xff"], "\ufffd"),  # what the bytes would be read as
        (everybody, [b""], "a"),
        (everybody, [b"a", b"b"], "a"),
        (everybody, [b"a", b"b"], "b"),
    ]
    async with ranking(authority) as port, channel(port, authority.client) as client:
        for token, acting_for, user_id in refused:
            async with failing() as failure:
                await rank(client, user_id, token, *acting_for)
            assert failure.code == grpc.StatusCode.PERMISSION_DENIED, acting_for
        for token in (everybody, one):
            assert (await rank(client, "a", token, b"a")).release == 1
            assert (await rank(client, "a", token, b"a", b"a")).release == 1
        assert (await rank(client, "laden ☂", everybody, "laden ☂".encode())).release == 1
        assert (await rank(client, "b", everybody)).release == 1  # the next call is as wide as ever


async def test_a_part_calls_what_names_it_for_every_merchant_and_nothing_else(authority: Authority) -> None:
    async with ranking(authority) as port:
        async with channel(port, authority.folder("generation")) as allowed:
            assert (await rank(allowed, "any")).release == 1
        async with channel(port, authority.folder("feedback")) as other:
            async with failing() as failure:
                await rank(other, "any", authority.token(None, 1))  # a token does not make a part a client
            assert failure.code == grpc.StatusCode.PERMISSION_DENIED
            assert failure.message == "service/feedback may not call Rank"


async def test_tokens_that_cannot_be_believed(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    good = authority.token(["a"], 1)
    head, claims, signature = good.split(".")
    wrong = {
        "needs one token": [None, "", " "],
        "bad_signature": [f"{head}.{claims}.{signature[:-6]}AAAAAA"],
        "invalid_key_id": [stranger.token(["a"], 1)],
        "is not valid": ["x", "a.b.c", f"{head}..{signature}", "eyJhbGciOiJub25lIn0.e30."],
        "expired_token": [authority.token(["a"], -1)],
        "issued to another client": [authority.token(["a"], 1, client="client/other")],
    }
    async with ranking(authority) as port, channel(port, authority.client) as client:
        for problem, tokens in wrong.items():
            for token in tokens:
                async with failing() as failure:
                    await rank(client, "a", token)
                assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), token
                assert problem in failure.message, (token, failure.message)
                assert len(token or "") < 20 or str(token) not in failure.message
        assert (await rank(client, "a", good)).release == 1


async def test_a_client_leaves_places_to_others_and_gives_back_its_own(authority: Authority) -> None:
    go, begun, token = asyncio.Event(), [], authority.token(["a"], 1)

    async def waits() -> None:
        begun.append(None)
        await go.wait()

    async def are_held(count: int) -> None:
        async with asyncio.timeout(30):
            while len(begun) < count:
                await asyncio.sleep(0.01)

    held = {"max_concurrent_calls": 4, "client_share": 0.5, "behaviour": waits}
    async with ranking(authority, **held) as port, channel(port, authority.client) as client:
        two = [asyncio.create_task(rank(client, "a", token)) for _ in range(2)]
        await are_held(2)
        async with failing() as failure:
            await rank(client, "a", token)
        assert (failure.code, failure.retryable) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        assert failure.message == "client/developer has 2 calls in flight, which is all that one client may"
        async with channel(port, authority.folder("generation")) as part:
            another = asyncio.create_task(rank(part, "a"))
            await are_held(3)
            go.set()
            await asyncio.gather(*two, another)
        await rank(client, "a", token)


def test_clients_together_leave_places_to_the_platforms_own_parts() -> None:
    shares = Shares(most=3, of_all=4)
    for _ in range(2):
        with shares.one("client/a"), shares.one("client/a"), shares.one("client/b"):
            with shares.one("client/a"), pytest.raises(ResourceExhausted) as none_left, shares.one("client/b"):
                pass
            with shares.one("client/b"):
                pass
        with shares.one("client/a"), shares.one("client/a"), shares.one("client/a"):  # noqa: SIM117 - inside of them
            with pytest.raises(ResourceExhausted) as all_of_its_own, shares.one("client/a"):
                pass
    assert str(none_left.value).startswith("clients have 4 calls in flight")
    assert str(all_of_its_own.value).startswith("client/a has 3 calls in flight")


def issued(authority: Authority, which: str, *names: x509.GeneralName) -> Path:
    """A folder with a certificate of these names, by the authority of "ca" or "clients"."""
    signer, key = authority._own(which)
    own = ec.generate_private_key(ec.SECP256R1())
    begun = _begun(_named("any"), signer.subject, own, 1, is_authority=False)
    signed = begun.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
    folder = authority.home / f"issued-{uuid4()}"
    folder.mkdir()
    (folder / "tls.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(_pem(own))
    (folder / "ca.crt").write_bytes((authority.client / "ca.crt").read_bytes())
    return folder


PART, CLIENT = "spiffe://perfusion/service/generation", "spiffe://perfusion/client/developer"


@pytest.mark.parametrize(
    ("which", "names"),
    [
        ("clients", [x509.UniformResourceIdentifier(PART)]),  # clients' authority makes no parts
        ("ca", [x509.DNSName(PART)]),
        ("clients", [x509.DNSName(CLIENT)]),
        ("ca", [x509.UniformResourceIdentifier("spiffe://perfusion/service/")]),
        ("clients", [x509.UniformResourceIdentifier("spiffe://perfusion/client/")]),
        ("ca", [x509.UniformResourceIdentifier("spiffe://perfusion/generation")]),
        ("ca", [x509.UniformResourceIdentifier("spiffe://perfusion/service/../generation")]),
        ("ca", [x509.UniformResourceIdentifier("spiffe://elsewhere/service/generation")]),
        ("ca", [x509.UniformResourceIdentifier(PART), x509.UniformResourceIdentifier(CLIENT)]),
        ("ca", [x509.UniformResourceIdentifier(PART), x509.UniformResourceIdentifier("spiffe://elsewhere/a")]),
        ("ca", [x509.DNSName("localhost")]),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(f"{type(n).__name__} {n.value}" for n in value),
)
async def test_a_name_must_be_the_only_one_whole_and_signed_by_who_may(
    authority: Authority, which: str, names: list[x509.GeneralName]
) -> None:
    folder = issued(authority, which, *names)
    async with ranking(authority) as port, channel(port, folder) as caller:
        async with failing() as failure:
            await rank(caller, "any", authority.token(None, 1))
        assert failure.code == grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_for_hundreds_of_merchants_fits(authority: Authority) -> None:
    token = authority.token([f"merchant-{n}" for n in range(450)], 1)
    assert len(token) > 8192
    async with ranking(authority) as port, channel(port, authority.client) as client:
        for _ in range(20):  # gRPC's own limit refuses some of such calls
            assert (await rank(client, "merchant-7", token)).release == 1


async def test_keys_that_cannot_be_read_are_noted_once(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    token = authority.token(["a"], 1)
    async with ranking(authority) as port, channel(port, authority.client) as client:
        await rank(client, "a", token)
        for broken in ("[" * 5000, "{}", '{"keys": [{"kty": "OKP", "crv": "none", "x": "AA"}]}', None):
            caplog.clear()
            authority.tokens.unlink() if broken is None else authority.tokens.write_text(broken)
            for _ in range(3):
                await rank(client, "a", token)
            assert len([record for record in caplog.records if "holds no JWKS" in record.message]) == 1


async def test_keys_that_are_replaced_end_the_tokens_that_they_signed(authority: Authority, tmp_path: Path) -> None:
    later, old = Authority(tmp_path / "later"), authority.token(["a"], 1)
    new = later.token(["a"], 1)
    async with ranking(authority) as port, channel(port, authority.client) as client:
        await rank(client, "a", old)
        authority.tokens.write_text("half a fi")  # the keys before stay in use
        await rank(client, "a", old)
        authority.tokens.write_bytes(later.tokens.read_bytes())
        await rank(client, "a", new)
        async with failing() as failure:
            await rank(client, "a", old)
        assert failure.code == grpc.StatusCode.UNAUTHENTICATED


async def test_without_keys_no_client_is_let_in(authority: Authority) -> None:
    async with (
        ranking(authority, token_keys=None) as port,
        channel(port, authority.client) as client,
        failing() as failure,
    ):
        await rank(client, "a", authority.token(["a"], 1))
    assert failure.code == grpc.StatusCode.UNAUTHENTICATED and "PERFUSION_TOKEN_KEYS" in failure.message


async def test_callers_without_a_certificate_or_of_another_domain(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    stranger.prepare([])
    trusting = grpc.ssl_channel_credentials((authority.client / "ca.crt").read_bytes())
    forged = grpc.ssl_channel_credentials(
        (authority.client / "ca.crt").read_bytes(),
        (stranger.client / "tls.key").read_bytes(),
        (stranger.client / "tls.crt").read_bytes(),
    )
    async with ranking(authority) as port:
        for credentials in (trusting, forged):
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=OWN_POOL) as unknown:
                async with failing() as failure:
                    await rank(unknown, "a", authority.token(None, 1))
                assert failure.code == grpc.StatusCode.UNAVAILABLE  # no connection: the call was never read
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as clear, failing() as failure:
            await rank(clear, "a", authority.token(None, 1))
        assert failure.code == grpc.StatusCode.UNAVAILABLE
    async with ranking(authority, trust_domain="elsewhere") as port, channel(port, authority.client) as client:
        async with failing() as failure:
            await rank(client, "a", authority.token(None, 1))
        assert failure.code == grpc.StatusCode.UNAUTHENTICATED and "spiffe://elsewhere/" in failure.message


async def test_without_their_authority_clients_have_no_connection(authority: Authority) -> None:
    """As with Triton, which asks for no token: what trusts the parts' authority alone knows no client."""
    async with ranking(authority, client_authority=None) as port:
        async with channel(port, authority.client) as client, failing() as failure:
            await rank(client, "a", authority.token(None, 1))
        assert failure.code == grpc.StatusCode.UNAVAILABLE
        async with channel(port, authority.folder("generation")) as part:
            await rank(part, "a")


async def test_a_client_cannot_pose_as_a_service(authority: Authority, tmp_path: Path) -> None:
    """Its certificate is of another authority than those that are called, and for calling alone."""
    posing = tmp_path / "posing"
    posing.mkdir()
    for name in ("tls.crt", "tls.key"):
        (posing / name).write_bytes((authority.client / name).read_bytes())
    (posing / "ca.crt").write_bytes((authority.folder("ranking") / "ca.crt").read_bytes())
    async with ranking(authority, certificates=posing) as port, channel(port, authority.folder("generation")) as part:
        async with failing() as failure:
            await rank(part, "a")
        assert failure.code == grpc.StatusCode.UNAVAILABLE


async def test_certificates_are_renewed_while_calls_run(authority: Authority) -> None:
    """Old and new certificates of the same authority, on both sides, in every mix; none of the calls fails."""
    async with ranking(authority, max_connection_age_s=1.0) as port:
        own = Certificates(authority.folder("generation"))
        async with open_channel(f"127.0.0.1:{port}", max_message_bytes=2**20, certificates=own) as calling:
            done = 0
            for _ in range(2):
                authority.prepare(["ranking", "generation"], anew=True)
                until = asyncio.get_running_loop().time() + 1.2  # a channel looks once a second
                while asyncio.get_running_loop().time() < until:
                    await rank(calling, "a")
                    done += 1
                    await asyncio.sleep(0.01)
            assert done > 10


def test_when_the_certificate_for_kafka_ends_is_shown(authority: Authority) -> None:
    name, folder = "perfusion_kafka_certificate_expires_timestamp_seconds", authority.folder("ranking")
    for of, shown in ((None, None), (folder, Certificates(folder).current().expires.timestamp())):
        registry = CollectorRegistry()
        settings = KafkaReader(kafka_certificates=of)
        Upkeep(settings, "perfusion.v1.X", {}, registry, workers=(), closers=(), certificates=None)
        assert registry.get_sample_value(name) == shown


async def test_a_pair_that_does_not_fit_is_not_taken(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates_module, "AGAIN_S", 0.0)
    folder = authority.folder("ranking")
    certificates = Certificates(folder)
    before = certificates.current()
    (folder / "tls.key").write_bytes((authority.client / "tls.key").read_bytes())  # as between two files of a renewal
    assert certificates.current() is before
    authority.prepare(["ranking"], anew=True)
    assert certificates.current() is not before and certificates.current().expires >= before.expires
    (folder / "tls.crt").unlink()
    with pytest.raises(CertificateError, match=r"tls.crt cannot be read: No such file"):
        Certificates(folder)
    for name in ("tls.crt", "ca.crt"):
        authority.prepare(["ranking"], anew=True)
        (folder / name).write_text("no certificate")
        with pytest.raises(CertificateError, match=rf"{name} holds no PEM"):
            Certificates(folder)


def test_who_is_who_must_be_said(authority: Authority) -> None:
    here = LOCAL | {"clear_text": False}
    with pytest.raises(IdentityError, match=r"PERFUSION_CERTIFICATES must name a folder.*PERFUSION_CLEAR_TEXT=true"):
        identity_of(RuntimeSettings(**here))
    for host in ("0.0.0.0", "::", "192.0.2.1", "shop.example.com"):
        with pytest.raises(IdentityError, match=f"PERFUSION_HOST must be 127.0.0.1, ::1 or localhost, not {host}"):
            identity_of(RuntimeSettings(**(LOCAL | {"host": host})))
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        assert identity_of(RuntimeSettings(**(LOCAL | {"host": host}))).certificates is None
    with pytest.raises(IdentityError, match="is for a process without PERFUSION_CERTIFICATES"):
        identity_of(RuntimeSettings(**(LOCAL | {"certificates": authority.client})))
    with pytest.raises(CertificateError, match="cannot be read"):
        identity_of(RuntimeSettings(**(here | {"certificates": authority.home / "nothing"})))
