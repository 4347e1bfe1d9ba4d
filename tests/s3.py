"""A real S3 server of the tests' own (moto), and buckets in it."""

import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from deploy.local.cluster import is_taken
from tests.ports import FIRST, LAST

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
_PATIENCE_S = 60.0


class S3:
    """A running server; `environment` is what a client of it needs."""

    def __init__(self, url: str) -> None:
        self.environment = KEYS | {"AWS_ENDPOINT_URL": url}
        self._client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )

    def new_bucket(self, name: str = "") -> str:
        """URL of an empty bucket."""
        name = name or f"test-{uuid.uuid4().hex}"
        where = {"LocationConstraint": KEYS["AWS_DEFAULT_REGION"]}
        self._client.create_bucket(Bucket=name, CreateBucketConfiguration=where)  # type: ignore[arg-type]
        return f"s3://{name}"

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Everything that a bucket holds, by key."""
        name = bucket.removeprefix("s3://")
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=name)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: self._client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys}


@contextmanager
def running_s3(log: Path, host: str = "127.0.0.1") -> Iterator[S3]:
    """Starts a server with nothing in it, and ends it."""
    port = next(port for port in range(FIRST + os.getpid() % 1000, LAST) if not is_taken(port))
    url = f"http://{host}:{port}"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        until = time.monotonic() + _PATIENCE_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the S3 server does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield S3(url)
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/moto-api/", timeout=1):
            return True
    except OSError:
        return False
