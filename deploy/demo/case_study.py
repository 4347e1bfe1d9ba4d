"""The paper's case study (Sec. 5.5 in spirit): two stores, one prompt, with and without personalisation.

Knows the plan of rounds and their measurements; other modules play, judge and draw a round.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from deploy.demo.judge import Judge
from deploy.demo.playing import GROUP_SIZE, Pictures, Played, count_read_back, play, put_profile, submit_pick
from deploy.local.clients import Clients
from deploy.local.layout import Layout
from lab.market.merchants import Merchant

PROMPT = "dress,v-neck,slim-fit,long sleeves,long-hair model"
GROUPS = 6  # of five: thirty pictures for every mean, with and without personalisation
FIRST_SEED = 1000
CHOICE_SEED = 5


@dataclass
class StorePlayed:
    """The groups of one store: the same seeds with and without personalisation."""

    merchant: Merchant
    personal: list[Played] = field(default_factory=list)
    plain: list[Played] = field(default_factory=list)
    picked: list[int] = field(default_factory=list)  # place in seed order, per personal group
    event_ids: set[str] = field(default_factory=set)

    @property
    def pictures(self) -> Pictures:
        return np.concatenate([p.pictures for p in self.personal])

    @property
    def plain_pictures(self) -> Pictures:
        return np.concatenate([p.pictures for p in self.plain])


def play_case_study(
    clients: Clients, judge: Judge, merchants: tuple[Merchant, ...], tick: Callable[[], None]
) -> list[StorePlayed]:
    """All rounds of all stores; `tick` after each group."""
    stores = [StorePlayed(merchant) for merchant in merchants]
    rng = np.random.default_rng(CHOICE_SEED)
    for store in stores:
        put_profile(clients, store.merchant)
        for number in range(GROUPS):
            seed = FIRST_SEED + GROUP_SIZE * number
            store.personal.append(play(clients, store.merchant, PROMPT, seed))
            tick()
            store.plain.append(play(clients, store.merchant, PROMPT, seed, adapter_scale=0.0))
            tick()
            store.picked.append(judge.pick(store.merchant, store.personal[-1].pictures, rng))
            store.event_ids.add(submit_pick(clients, store.personal[-1], store.picked[-1]))
    return stores


def measure(judge: Judge, store: StorePlayed, other: Merchant, images: list[str]) -> dict[str, object]:
    """One entry of the summary: the first group, and the utilities over all of the store's pictures."""
    first = store.personal[0]
    return {
        "user_id": store.merchant.user_id,
        "group_id": first.group.group_id,
        "images": images,
        "scores": [round(score, 4) for score in first.scores],
        "prompt_accuracy": judge.prompt_accuracy(first.pictures),
        "true_utility": judge.utility(store.merchant, store.pictures),
        "true_utility_as_other_store": judge.utility(other, store.pictures),
        "true_utility_without_personalisation": judge.utility(store.merchant, store.plain_pictures),
        "latency_s": round(first.latency_s, 3),
    }


def read_back(layout: Layout, stores: list[StorePlayed]) -> int:
    return sum(count_read_back(layout, store.merchant.user_id, store.event_ids) for store in stores)
