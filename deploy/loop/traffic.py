"""Traffic: merchants play rounds through the public API, one after the other in each of several threads.

Every round that ends is a line of a file: what was shown, by which release, what it is truly worth to the merchant,
what they picked. Every call that does not end OK is a line of another. Nothing is tried again, so that each such call
counts, until `persistent` says otherwise. Knows the public API and the market's truth; not what the platform does with
it.
"""

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackRequest
from perfusion.v1.generation_service_pb2 import GenerateRequest
from perfusion.v1.group_pb2 import Arm, Group
from PIL import Image

from deploy.demo.playing import put_profile
from deploy.local.clients import Clients
from deploy.loop.merchants import Player, ask
from deploy.loop.records import FAILED, ROUNDS, Failed, Shown, TrafficError, append, lines_of
from lab.market.attributes import KINDS, Garment, diversity, to_indices
from lab.market.rounds import choose
from lab.market.taste import score, taste_weights
from lab.recogniser.recogniser import Recogniser, prompt_accuracy

GROUP_SIZE = 5
FLOODED_SHARE = 0.5  # of all rounds, by the flooding merchant
CALL_TIMEOUT_S = 120.0
RETRY_KEY = "grpc-retry-pushback-ms"  # comes with every RetryInfo
TRACE_KEY = "trace-id"  # comes with every answer of a service
PAUSE_S = 0.5  # after a call that failed
Pick = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # true utilities (K,) → selected (K,)


class Traffic:
    """Rounds in the background; `rounds` are those that have ended, earlier calls' included.

    Args:
        clients: stubs of the running platform.
        judge: reads what pictures show.
        folder: of rounds.jsonl and failed.jsonl.
        workers: rounds at once.
        persistent: a call that may be tried again is, as the same request, until it ends otherwise.

    May change while it plays:
        pick: how merchants choose; by the truth unless it is poisoned.
        flooding: a merchant who plays half of the rounds.
    """

    def __init__(
        self, clients: Clients, judge: Recogniser, folder: Path, workers: int, persistent: bool = False, seed: int = 0
    ) -> None:
        self.clients, self.judge, self.folder, self.workers = clients, judge, folder, workers
        self.persistent = persistent
        self.pick: Pick = choose
        self.flooding: Player | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.rounds = [Shown(**line) for line in lines_of(folder / ROUNDS)]
        self.failed = [Failed(**line) for line in lines_of(folder / FAILED)]
        self.fault: Exception | None = None  # what ended a worker; rounds do not go on without it
        self._players: list[Player] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._seed = seed
        self._threads: list[threading.Thread] = []

    def join(self, players: Sequence[Player]) -> None:
        """New merchants store their profiles and play from now on.

        Raises:
            TrafficError: a profile is refused.
        """
        for player in players:
            told = replace(player.merchant, features=player.profile)
            while not self._called("PutUserProfile", partial(put_profile, self.clients, told)):
                if not self.failed[-1].retryable:
                    raise TrafficError(f"the profile of {player.user_id} is refused: {self.failed[-1]}")
                time.sleep(PAUSE_S)
        with self._lock:
            self._players += players

    @contextmanager
    def playing(self) -> Iterator["Traffic"]:
        """Rounds go on until the end."""
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(self.workers)]
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(CALL_TIMEOUT_S)

    @property
    def requests(self) -> int:
        """Calls, of rounds and picks: those that ended OK, and those that did not."""
        return len(self.rounds) + sum(shown.event_id != "" for shown in self.rounds) + len(self.failed)

    def await_rounds(self, more: int, patience_s: float, say: Callable[[int], None] = lambda done: None) -> None:
        """Returns when so many more rounds have ended; `say` gets their number at each.

        Raises:
            TrafficError: none ended for so long, or a worker stopped.
        """
        begin = seen = len(self.rounds)
        since = time.monotonic()
        while (now := len(self.rounds)) < begin + more:
            if self.fault is not None:
                raise TrafficError(f"rounds stopped: {self.fault!r}") from self.fault
            if now > seen:
                seen, since = now, time.monotonic()
                say(now - begin)
            elif time.monotonic() - since > patience_s:
                raise TrafficError(f"no round ended in {patience_s:.0f} s; the last failure: {self.failed[-1:]}")
            time.sleep(0.1)

    def _work(self, number: int) -> None:
        try:
            self._play_on(number)
        except Exception as error:  # a thread would end in silence
            self.fault = error

    def _play_on(self, number: int) -> None:
        rng = np.random.default_rng((self._seed, 43, number, time.time_ns()))
        while not self._stop.is_set():
            with self._lock:
                player = self._players[int(rng.integers(len(self._players)))]
            if self.flooding is not None and rng.random() < FLOODED_SHARE:
                player = self.flooding
            shown = self.round(player, rng)
            if shown is None:
                self._stop.wait(PAUSE_S)
                continue
            self._note(self.rounds, shown, ROUNDS)

    def round(self, player: Player, rng: np.random.Generator) -> Shown | None:
        """One round and its pick; None if there is no group."""
        prompt, asked = ask(player, rng)
        request = GenerateRequest(
            request_id=str(uuid.uuid4()), user_id=player.user_id, prompt=prompt, num_candidates=GROUP_SIZE
        )
        began, group = time.monotonic(), Group()

        def generate() -> None:
            for event in self.clients.generation.Generate(request, timeout=CALL_TIMEOUT_S):
                if event.WhichOneof("event") == "group":
                    group.CopyFrom(event.group)

        if not self._called("Generate", generate):
            return None
        latency_s = time.monotonic() - began
        garments = self._read(group)
        weights = taste_weights(player.merchant)
        utilities = np.array([score(weights, garment, asked) for garment in garments])
        picked = self.pick(utilities, rng)
        event_id = self._submit(group, picked)
        indices = np.stack([to_indices(garment) for garment in garments])  # (K, kinds)
        return Shown(
            time=time.time(),
            group_id=group.group_id,
            user_id=group.user_id,
            release=group.release,
            arm=Arm.Name(group.assignment.arm).removeprefix("ARM_").lower(),
            drawn_by=[candidate.release or group.release for candidate in group.candidates],
            utilities=[round(float(value), 4) for value in utilities],
            prompt_accuracy=[prompt_accuracy(asked, [garment]) for garment in garments],
            diversity=float(diversity(indices.reshape(1, 1, len(garments), len(KINDS)))[0, 0]),
            picked=picked.tolist(),
            event_id=event_id,
            latency_s=round(latency_s, 3),
        )

    def _submit(self, group: Group, picked: np.ndarray) -> str:
        ids = [candidate.image_id for candidate, one in zip(group.candidates, picked, strict=True) if one]
        request = SubmitFeedbackRequest(
            request_id=str(uuid.uuid4()), group_id=group.group_id, user_id=group.user_id, selected_image_ids=ids
        )
        answers: list[str] = []

        def submit() -> None:
            answers.append(self.clients.feedback.SubmitFeedback(request, timeout=CALL_TIMEOUT_S).event_id)

        return answers[0] if self._called("SubmitFeedback", submit) else ""

    def _read(self, group: Group) -> list[Garment]:
        pictures = [np.asarray(Image.open(io.BytesIO(c.png)).convert("RGB"), np.uint8) for c in group.candidates]
        return self.judge.read(np.stack(pictures))

    def _called(self, method: str, call: Callable[[], object]) -> bool:
        """Whether a call ended OK."""
        while True:
            try:
                call()
                return True
            except grpc.RpcError as error:
                failed = _failed(method, error)
                self._note(self.failed, failed, FAILED)
                if not (self.persistent and failed.retryable) or self._stop.wait(PAUSE_S):
                    return False

    def _note(self, into: list[Any], what: Shown | Failed, name: str) -> None:
        with self._lock:
            into.append(what)
            append(self.folder / name, what)


def _failed(method: str, error: grpc.RpcError) -> Failed:
    """A call may be tried again if the service says when, or if its connection broke and it said nothing."""
    said = {item.key for item in error.trailing_metadata() or ()}
    broke = error.code() == grpc.StatusCode.UNAVAILABLE and TRACE_KEY not in said
    return Failed(time.time(), method, error.code().name, error.details() or "", RETRY_KEY in said or broke)
