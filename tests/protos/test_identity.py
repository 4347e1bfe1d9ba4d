"""Who a client is, by the files in a folder: to a real server that asks for a certificate."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from perfusion.client import Identity, PerFusion
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileResponse

from deploy.local.authority import Authority
from tests.protos.running import certified, serving


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.prepare(["user_embedding"])
    return made


def test_every_call_has_the_token_of_its_time_and_the_certificate(authority: Authority) -> None:
    seen: list[Any] = []

    def put(request: Any, context: grpc.ServicerContext) -> PutUserProfileResponse:
        given = dict(context.invocation_metadata())
        seen.append((given["authorization"], context.auth_context()["peer_spiffe_id"]))
        return PutUserProfileResponse()

    first = (authority.client / "token").read_text()
    with (
        serving(certified(authority.folder("user_embedding"), authority.clients), PutUserProfile=put) as address,
        PerFusion(address, identity=authority.client) as client,
    ):
        client.put_profile("a", {})
        (authority.client / "token").write_text("another\n")
        client.put_profile("a", {})
    who = [b"spiffe://perfusion/client/developer"]
    assert seen == [(f"Bearer {first}", who), ("Bearer another", who)]


def test_one_identity_serves_several_clients(authority: Authority) -> None:
    identity = Identity(authority.client)
    with (
        serving(
            certified(authority.folder("user_embedding"), authority.clients),
            PutUserProfile=lambda *_: PutUserProfileResponse(),
        ) as address,
        PerFusion(address, identity=identity) as one,
        PerFusion(address, identity=identity) as two,
    ):
        one.put_profile("a", {})
        two.put_profile("a", {})


def test_what_is_missing_is_named(authority: Authority) -> None:
    (authority.client / "tls.key").unlink()
    with pytest.raises(FileNotFoundError, match=r"tls\.key"):
        PerFusion("localhost:1", identity=str(authority.client))
    with pytest.raises(FileNotFoundError, match="nowhere/token"):
        PerFusion("localhost:1", identity="nowhere")


def test_identity_and_credentials_exclude_each_other(authority: Authority) -> None:
    with pytest.raises(ValueError, match="an identity or credentials"):
        PerFusion("localhost:1", identity=authority.client, credentials=grpc.ssl_channel_credentials())
