"""Merchants who play rounds without end, through the cluster's Service names, with the client that users have.

Every call that fails for its caller is counted; the client's own second attempts are part of it.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfusion.client import PerFusion, PerFusionError

from lab.market.merchants import case_study

DOMAIN = "perfusion.svc.cluster.local"
PORTS = {"user_embedding": 50051, "generation": 50052, "ranking": 50053, "feedback": 50054}
PROMPTS = ("dress,v-neck", "skirt,midi length", "coat,belted", "shirt,long sleeves")


def address(service: str) -> str:
    """A service's name in the cluster, with its port."""
    return f"{service.replace('_', '-')}.{DOMAIN}:{PORTS[service]}"


@dataclass
class Load:
    """What has happened so far."""

    client: Path  # its certificate and token
    rounds: list[tuple[int, float]] = field(default_factory=list)  # release, seconds
    picks: list[str] = field(default_factory=list)  # group ids whose pick was acknowledged
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def figures(self) -> dict[str, Any]:
        """How many rounds, how long they took, and what failed."""
        with self._lock:
            took = sorted(seconds for _, seconds in self.rounds)
            return {
                "rounds": len(took),
                "median_s": round(took[len(took) // 2], 2) if took else None,
                "longest_s": round(took[-1], 2) if took else None,
                "releases": dict(Counter(release for release, _ in self.rounds)),
                "failures": list(self.failures),
            }

    def play(self, stop: threading.Event, number: int, pause_s: float) -> None:
        """One merchant: a round, a pick of its best candidate, a pause."""
        merchant, user = case_study()[number % 2], users(number + 1)[number]
        features = {name: value for name, value in merchant.features.items() if value is not None}
        with PerFusion(**{service: address(service) for service in PORTS}, identity=self.client) as client:
            client.put_profile(user, features)  # type: ignore[arg-type]
            turn = number
            while not stop.is_set():
                began = time.monotonic()
                try:
                    group = client.generate(user, PROMPTS[turn % len(PROMPTS)]).group()
                    took = time.monotonic() - began
                    client.submit_feedback(group, [group.candidates[0].image_id])
                    with self._lock:
                        self.rounds.append((group.release, took))
                        self.picks.append(group.group_id)
                except PerFusionError as error:
                    with self._lock:
                        self.failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
                turn += 1
                stop.wait(pause_s)


def users(merchants: int) -> list[str]:
    """Their ids."""
    return [f"{case_study()[number % 2].user_id}-{number}" for number in range(merchants)]


@contextmanager
def running(client: Path, merchants: int, pause_s: float = 1.0) -> Iterator[Load]:
    """So many at once, until the end of the block."""
    load, stop = Load(client), threading.Event()
    threads = [threading.Thread(target=load.play, args=(stop, number, pause_s)) for number in range(merchants)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()
