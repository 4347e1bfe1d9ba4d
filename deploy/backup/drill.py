"""`make restore-drill`: a back-up under traffic, the loss of everything, a restore into an empty platform, the proof.

Two platforms of its own, one after the other, with other files and another Kafka. What clients were told before the
point is held against what the second platform says: picks, pictures, the lake, and what happens next. Knows the public
API and the commands; the steps of a back-up are taking.py's and restoring.py's.
"""

import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from deltalake import DeltaTable
from perfusion.v1.feedback_service_pb2 import GetFeedbackRequest, ListFeedbackRequest, SubmitFeedbackRequest
from perfusion.v1.generation_service_pb2 import GenerateRequest, GetGroupRequest
from perfusion.v1.group_pb2 import Group
from perfusion.v1.user_embedding_service_pb2 import GetUserProfileRequest

from contract.repository import write_durably
from deploy.backup.places import BackupError, Places
from deploy.backup.restoring import restore
from deploy.backup.taking import take
from deploy.demo.playing import put_profile
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT, Layout, clean_environment, venv
from deploy.local.parts import service_environment
from deploy.loop.merchants import Player, ask, players
from services.erasure import OWNED

CALL_S = 300.0
CANDIDATES = 2
MERCHANTS = 6
AFTERWARDS = 4  # rounds of the restored platform
PATIENCE_S = 1800.0
SCHEMA = ROOT / "training" / "weights" / "tiny" / "feature_schema.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Told:
    """What a client was told of one round."""

    user_id: str
    group_id: str
    event_id: str  # of its pick
    pictures: dict[str, str]  # SHA-256 by image_id
    time: datetime  # when the pick was acknowledged


@dataclass
class Merchants:
    """Rounds in a thread, until told to stop."""

    clients: Clients
    told: list[Told] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def round(self, player: Player, rng: np.random.Generator) -> Told:
        prompt, _ = ask(player, rng)
        asked = GenerateRequest(
            request_id=str(uuid.uuid4()), user_id=player.user_id, prompt=prompt, num_candidates=CANDIDATES
        )
        group = Group()
        for event in self.clients.generation.Generate(asked, timeout=CALL_S):
            if event.WhichOneof("event") == "group":
                group.CopyFrom(event.group)
        picked = [group.candidates[int(rng.integers(CANDIDATES))].image_id]
        given = SubmitFeedbackRequest(
            request_id=str(uuid.uuid4()), group_id=group.group_id, user_id=player.user_id, selected_image_ids=picked
        )
        event_id = self.clients.feedback.SubmitFeedback(given, timeout=CALL_S).event_id
        return Told(player.user_id, group.group_id, event_id, _pictures(group), datetime.now(UTC))

    @contextmanager
    def playing(self, who: list[Player]) -> Iterator[None]:
        stop = threading.Event()

        def work() -> None:
            rng = np.random.default_rng(61)
            while not stop.is_set():
                try:
                    self.told.append(self.round(who[len(self.told) % len(who)], rng))
                except grpc.RpcError as error:
                    self.failed.append(str(error.code()))
                    stop.wait(1.0)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(2 * CALL_S)


def drill(work: Path, name: str, port_offset: int, groups: int, say: Say) -> dict[str, Any]:
    """The whole; writes report.json into `work`, which it empties before, and returns what is in it.

    Raises:
        BackupError: rounds do not go on, or a command fails.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lost = Layout(f"{name}-lost", port_offset)
    empty = Layout(f"{name}-restored", port_offset, work / "model_repository")
    for layout in (lost, empty):
        Cluster(layout).down()
        shutil.rmtree(layout.home, ignore_errors=True)
    backup, audit = work / "backup", work / "erasures.jsonl"
    who = players(range(MERCHANTS), 0)
    places = Places.of_layout(lost, work / "lost-lake")
    took: dict[str, float] = {}
    with _running(lost, say), connect(lost) as clients:
        for player in who:
            put_profile(clients, player.merchant)
        merchants = Merchants(clients)
        with merchants.playing(who):
            _await(merchants, groups, say)
            began = time.monotonic()
            record = take(places, backup, say, SCHEMA)
            took["back-up"] = time.monotonic() - began
            _await(merchants, len(merchants.told) + 2, say)  # of after the point
        gone = who[0].user_id
        for service in OWNED.keys() - {"studio"}:
            _command(
                "services.erasure", "--service", service, "--user", gone, "--audit", audit,
                more=service_environment(lost, service),
            )  # fmt: skip
    shutil.rmtree(lost.home)
    shutil.rmtree(work / "lost-lake")
    say("everything is lost")
    restored = Places.of_layout(empty, work / "lake")
    began = time.monotonic()
    said = restore(backup, restored, audit, say)
    took["restore"] = time.monotonic() - began
    point = datetime.fromisoformat(record.began)
    before = [told for told in merchants.told if told.time < point]
    with _running(empty, say), connect(empty) as clients:
        took["until it serves"] = time.monotonic() - began
        found = _compare(clients, [told for told in before if told.user_id != gone])
        found["erased merchant's profile, groups"] = _left_of(clients, gone, before)
        refusal = _collect(restored)
        loss = next((word for word in refusal.split() if word.startswith("cluster:")), "")
        found["collect names the new Kafka"] = bool(loss)
        if remaining := _collect(restored, "--accept", loss.rstrip(".,;)")):
            raise BackupError(f"collect: {remaining}")
        again = Merchants(clients)
        rng = np.random.default_rng(62)
        again.told += [again.round(who[1 + n % (MERCHANTS - 1)], rng) for n in range(AFTERWARDS)]
        if remaining := _collect(restored, "--accept", loss.rstrip(".,;)")):
            raise BackupError(f"collect: {remaining}")
        found |= _in_the_lake(restored, [told for told in before if told.user_id != gone], again.told, gone)
    report = {
        "groups_before_the_point": len(before),
        "rounds_failed_meanwhile": len(merchants.failed),
        "erased_again": said["erased_again"],
        "seconds": {step: round(seconds, 1) for step, seconds in took.items()},
        "backup_bytes": sum(of["bytes"] for of in record.files.values()),
        "found": found,
        "passed": bool(before) and not merchants.failed and _is_right(found, len(before)),
    }
    write_durably(work / "report.json", json.dumps(report, indent=1) + "\n")
    return report


def _compare(clients: Clients, before: list[Told]) -> dict[str, Any]:
    """What clients were told, against what they are told now."""
    wrong: Counter[str] = Counter()
    for told in before:
        try:
            asked = GetFeedbackRequest(group_id=told.group_id, user_id=told.user_id)
            pick = clients.feedback.GetFeedback(asked, timeout=CALL_S)
            wrong["picks that are others"] += told.event_id not in str(pick)
            group = clients.generation.GetGroup(GetGroupRequest(group_id=told.group_id), timeout=CALL_S).group
            wrong["groups with other pictures"] += _pictures(group) != told.pictures
        except grpc.RpcError as error:
            wrong[f"lost: {error.code().name}"] += 1
    for user_id in {told.user_id for told in before}:
        listed = clients.feedback.ListFeedback(ListFeedbackRequest(user_id=user_id, page_size=100), timeout=CALL_S)
        times = Counter(pick.group_id for pick in listed.feedback)
        wrong["picks that are there twice"] += sum(count > 1 for count in times.values())
    return {"wrong": {what: count for what, count in wrong.items() if count}}


def _left_of(clients: Clients, user_id: str, before: list[Told]) -> int:
    """What still answers of an erased merchant."""
    left = 0
    calls: list[Callable[[], object]] = [
        lambda: clients.users.GetUserProfile(GetUserProfileRequest(user_id=user_id), timeout=CALL_S)
    ]
    for told in before:
        if told.user_id == user_id:
            asked = GetGroupRequest(group_id=told.group_id)
            calls.append(lambda asked=asked: clients.generation.GetGroup(asked, timeout=CALL_S))  # type: ignore[misc]
    for call in calls:
        try:
            call()
            left += 1
        except grpc.RpcError as error:
            left += error.code() is not grpc.StatusCode.NOT_FOUND
    return left


def _in_the_lake(places: Places, before: list[Told], after: list[Told], gone: str) -> dict[str, Any]:
    """How often each pick of before the point, and each of the restored platform, is there."""
    events = DeltaTable(f"{places.lake}/events").to_pyarrow_table(columns=["event_id", "user_id"]).to_pylist()
    times = Counter(event["event_id"] for event in events)
    groups = Counter(
        row["group_id"]
        for row in DeltaTable(f"{places.lake}/groups").to_pyarrow_table(columns=["group_id"]).to_pylist()
    )
    return {
        "picks not once in the lake": sum(times[told.event_id] != 1 for told in [*before, *after]),
        "groups not once in the lake": sum(groups[told.group_id] != 1 for told in [*before, *after]),
        "events twice in the lake": sum(count > 1 for count in times.values()),
        "the erased merchant's events in the lake": sum(event["user_id"] == gone for event in events),
    }


def _is_right(found: dict[str, Any], groups: int) -> bool:
    counts = [value for value in found.values() if isinstance(value, int) and not isinstance(value, bool)]
    return groups > 0 and not found["wrong"] and found["collect names the new Kafka"] and not any(counts)


def _pictures(group: Group) -> dict[str, str]:
    return {each.image_id: hashlib.sha256(each.png).hexdigest() for each in group.candidates}


def _await(merchants: Merchants, wanted: int, say: Say) -> None:
    until = time.monotonic() + PATIENCE_S
    while len(merchants.told) < wanted:
        if time.monotonic() > until:
            raise BackupError(f"{len(merchants.told)} rounds in {PATIENCE_S:.0f} s; failed: {merchants.failed[-3:]}")
        time.sleep(0.2)
    say(f"{len(merchants.told)} rounds are picked")


@contextmanager
def _running(layout: Layout, say: Say) -> Iterator[None]:
    cluster = Cluster(layout, say)
    try:
        cluster.up()
        yield
    finally:
        cluster.down()


def _collect(places: Places, *more: str) -> str:
    """Collects what Kafka has; "" or why it does not."""
    options = ["--kafka", places.kafka, "--kafka-certificates", places.kafka_certificates, "--lake", places.lake]
    return _said("training.retraining.collect", *options, "--once", *more)


def _command(module: str, *arguments: object, more: dict[str, str]) -> None:
    if problem := _said(module, *arguments, more=more):
        raise BackupError(f"{module}: {problem}")


def _said(module: str, *arguments: object, more: dict[str, str] | None = None) -> str:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "protos/gen"))
    done = subprocess.run(
        [str(venv("") / "bin" / "python"), "-m", module, *map(str, arguments)],
        cwd=ROOT, env=clean_environment() | (more or {}) | {"PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return (done.stderr or done.stdout or "failed").strip()[-2000:] if done.returncode else ""
