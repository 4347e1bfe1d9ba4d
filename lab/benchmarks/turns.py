"""Times several ways to do the same step, in turns within one run, so that their ratios hold on any machine."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import CLIPTokenizer

from contract.feature_schema import FeatureSchema
from lab.market.prompts import PHRASE_OF
from training.data.groups import GroupTensors
from training.models.tokens import encode


def race(ways: Mapping[str, Callable[[], None]], groups: int, rounds: int) -> dict[str, Any]:
    """Groups a second of every way by its median step after one that warms up, and the first way's ratio to others'."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in tqdm(range(rounds + 1), desc="rounds"):
        for name, step in ways.items():
            began = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - began)
    rates = {name: groups / statistics.median(times) for name, times in seconds.items()}
    first = next(iter(rates))
    return {
        "groups_per_batch": groups,
        "threads": torch.get_num_threads(),
        "groups_per_second": rates,
        f"{first}_over": {name: rates[first] / rate for name, rate in rates.items() if name != first},
    }


def random_groups(schema: FeatureSchema, tokenizer: CLIPTokenizer, size_px: int, n: int, k: int) -> GroupTensors:
    """n groups of k noise pictures, one selected, with prompts of the market's phrases."""
    rng, phrases = np.random.default_rng(0), list(PHRASE_OF.values())
    prompts = [",".join(rng.choice(phrases, 4, replace=False)) for _ in range(n)]
    highest = np.array([f.n_rows for f in schema.features for _ in range(f.n_slots)])
    return GroupTensors(
        schema,
        rng.integers(0, highest, (n, schema.n_slots)),
        np.arange(k) == rng.integers(k, size=n)[:, None],
        encode(tokenizer, prompts)[:, None],
        images=rng.integers(0, 256, (n, k, size_px, size_px, 3)).astype(np.uint8),
    )
