"""docs/security.md's actions of S3 are enough for what each part does, and refuse the rest: on an S3 server that minds
policies, with a user a part."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from s3fs import S3FileSystem

from contract.repository import Repository
from deploy.local.layout import ROOT
from deploy.releases.errors import ReleaseError
from deploy.releases.store import Store
from services.generation.adapters.pictures import FsspecPictures
from services.runtime.errors import ServiceError
from tests.repositories import copy_of
from tests.s3 import KEYS, S3, running_s3
from tests.training.retraining.events import group, pick
from tests.training.retraining.test_collecting import Collecting

ROW = re.compile(r"^\| ([a-z, -]+) \| (`[a-z]+`(?:, `[a-z]+`)*) \| (.*`s3:.*) \|$", re.MULTILINE)
BUCKET = "platform"


def policy(part: str) -> dict[str, Any]:
    """What the page says of a part: objects by their prefix, the list of the bucket."""
    statements = []
    for parts, prefixes, actions in ROW.findall((ROOT / "docs" / "security.md").read_text()):
        if part in parts.split(", "):
            named = re.findall(r"s3:\w+", actions)
            objects = [f"arn:aws:s3:::{BUCKET}/{prefix}/*" for prefix in re.findall("[a-z]+", prefixes)]
            on_objects = [action for action in named if action != "s3:ListBucket"]
            statements.append({"Effect": "Allow", "Action": on_objects, "Resource": objects})
            statements.append({"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{BUCKET}"})
    assert statements, f"the page has no row of {part}"
    return {"Version": "2012-10-17", "Statement": statements}


class Guarded:
    """A server that minds policies; `become` makes this process one of the parts."""

    def __init__(self, server: S3, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.new_bucket(BUCKET)
        url = server.environment["AWS_ENDPOINT_URL"]
        users = boto3.client("iam", endpoint_url=url)
        self._keys: dict[str, tuple[str, str]] = {}
        for part in ("generation", "ranking", "releases", "collect", "retraining"):
            users.create_user(UserName=part)
            users.put_user_policy(UserName=part, PolicyName="own", PolicyDocument=json.dumps(policy(part)))
            made = users.create_access_key(UserName=part)["AccessKey"]
            self._keys[part] = (made["AccessKeyId"], made["SecretAccessKey"])
        urllib3.request("POST", f"{url}/moto-api/reset-auth", body=b"0")  # from now on it asks who calls

    def become(self, part: str) -> None:
        key, secret = self._keys[part]
        self._patch.setenv("AWS_ACCESS_KEY_ID", key)
        self._patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        S3FileSystem.clear_instance_cache()  # which knows the keys of before


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    with running_s3(tmp_path / "s3.log") as server:
        yield Guarded(server, monkeypatch)
    S3FileSystem.clear_instance_cache()


def test_generation_has_its_pictures_and_nothing_else(guarded: Guarded) -> None:
    async def use(place: str) -> bytes:
        pictures = FsspecPictures(f"s3://{BUCKET}/{place}", timeout_s=20)
        try:
            uri = await pictures.put(b"picture")
            found = await pictures.get(uri)
            assert isinstance(found, bytes)
            return found
        finally:
            await pictures.close()

    guarded.become("generation")
    assert asyncio.run(use("pictures")) == b"picture"
    for place in ("lake", "original"):
        with pytest.raises(ServiceError):
            asyncio.run(use(place))
    guarded.become("ranking")
    with pytest.raises(ServiceError):
        asyncio.run(use("pictures"))


def test_releases_are_pushed_by_those_who_may(guarded: Guarded, exported: Repository, tmp_path: Path) -> None:
    number = exported.numbers()[-1]
    repository = copy_of(exported, tmp_path / "models", [number])
    guarded.become("ranking")
    with pytest.raises(ReleaseError):
        Store(f"s3://{BUCKET}/releases").push(repository, number)
    guarded.become("retraining")
    Store(f"s3://{BUCKET}/releases").push(repository, number)
    guarded.become("ranking")
    assert Store(f"s3://{BUCKET}/releases").numbers() == [number]


def test_the_lake_is_written_by_collect_alone(guarded: Guarded) -> None:
    guarded.become("collect")
    found = Collecting(f"s3://{BUCKET}/lake")
    found.log.put(group("a"), pick("a", 0))
    found.collect()
    guarded.become("retraining")
    assert len(Collecting(f"s3://{BUCKET}/lake").rows()) == 1
    found.log.put(group("b"), pick("b", 0))
    with pytest.raises(Exception, match="(?i)denied|forbidden|403"):
        found.collect(found.open())


def test_keys_are_not_those_of_everybody(guarded: Guarded) -> None:
    """The server minds: without a user of its own nobody reads."""
    client = boto3.client("s3", aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong")
    with pytest.raises(Exception, match="(?i)denied|forbidden|InvalidAccessKeyId|does not exist"):
        client.list_objects_v2(Bucket=BUCKET)
