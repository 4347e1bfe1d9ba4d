"""Sends malformed requests to a running platform, counts what it answers, and watches memory and health.

A platform may refuse whatever it likes, but by a status that says so: INTERNAL and UNKNOWN are faults of ours, wherever
they come from. Knows gRPC and the platform's parts; what is sent is requests.py's.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from perfusion.v1 import (
    feedback_service_pb2,
    generation_service_pb2,
    items_service_pb2,
    ranking_service_pb2,
    user_embedding_service_pb2,
)
from tqdm import tqdm

from deploy.fuzzing.requests import request
from deploy.local.clients import open_channel
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout
from deploy.local.parts import is_serving

FILES = {  # part → the file with its service
    "user_embedding": user_embedding_service_pb2,
    "generation": generation_service_pb2,
    "ranking": ranking_service_pb2,
    "feedback": feedback_service_pb2,
    "items": items_service_pb2,
}
FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS"}
DEADLINE_S = 3.0  # a request that is none by chance is drawn no longer
KEPT = 20  # faults that the report shows with their bytes
WARM = 0.1  # of the requests, before memory is looked at
GROWTH_MB = 64.0  # that a service may grow by: its caches and pools, not what each request leaves
_MESSAGES_OF_A_STREAM = 3


@dataclass(frozen=True)
class Method:
    """A method of the API, and the part that serves it."""

    part: str
    of: MethodDescriptor

    @property
    def path(self) -> str:
        return f"/{self.of.containing_service.full_name}/{self.of.name}"


def methods() -> list[Method]:
    """All of them."""
    return [
        Method(part, method)
        for part, file in FILES.items()
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def fuzz(layout: Layout, count: int, seed: int) -> dict[str, Any]:
    """Sends `count` requests, to each method in turn; returns the report.

    Each request has random numbers of its own, by the seed and its place, so one can be sent again alone.
    """
    channels = {part: open_channel(layout, part) for part in FILES}
    codes: dict[str, Counter[str]] = {}
    faults: list[dict[str, Any]] = []
    served = {part: is_serving(layout, part) for part in FILES}
    before: dict[str, float] = {}
    try:
        for n, method in enumerate(tqdm(_in_turn(count), total=count, desc="requests", disable=None)):
            if n == int(count * WARM):
                before = memory_mb(layout)
            rng = random.Random(f"{seed} {n}")
            sent = [request(method.of.input_type, rng) for _ in range(_messages(method, rng))]
            code = _send(channels[method.part], method, sent)
            codes.setdefault(method.path, Counter())[code] += 1
            if code in FAULTS and len(faults) < KEPT:
                faults.append({"n": n, "method": method.path, "code": code, "bytes": [each.hex() for each in sent]})
    finally:
        for channel in channels.values():
            channel.close()
    after = memory_mb(layout)
    grown = {part: round(after[part] - mb, 1) for part, mb in before.items()}
    counted = sum(codes.values(), Counter())
    lied = sorted(part for part in FILES if is_serving(layout, part) != served[part])
    return {
        "seed": seed,
        "requests": count,
        "codes": dict(counted.most_common()),
        "codes_by_method": {path: dict(found.most_common()) for path, found in sorted(codes.items())},
        "faults": faults,
        "memory_mb": {part: {"before": before[part], "after": after[part]} for part in before},
        "grown_mb": grown,
        "health_changed": lied,
        "passed": not any(counted[code] for code in FAULTS) and not lied and max(grown.values()) < GROWTH_MB,
    }


def _in_turn(count: int) -> Iterator[Method]:
    all_of_them = methods()
    return (all_of_them[n % len(all_of_them)] for n in range(count))


def _messages(method: Method, rng: random.Random) -> int:
    return rng.randint(0, _MESSAGES_OF_A_STREAM) if method.of.client_streaming else 1


def _send(channel: grpc.Channel, method: Method, sent: list[bytes]) -> str:
    """The status's name."""
    streams = (method.of.client_streaming, method.of.server_streaming)
    kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    call = kinds[streams](method.path)  # without serializers: bytes go and come as they are
    try:
        answer = call(iter(sent) if method.of.client_streaming else sent[0], timeout=DEADLINE_S)
        if method.of.server_streaming:
            for _ in answer:
                pass
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def memory_mb(layout: Layout) -> dict[str, float]:
    """The resident memory of each service's process."""
    found = {}
    for part in FILES:
        pid = Cluster(layout).process(part).pid
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        [kib] = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        found[part] = round(kib / 1024, 1)
    return found
