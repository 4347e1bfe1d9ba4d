"""Prompts: they say what was asked for in any order, and the vocabulary says what a kind needs."""

import json
from pathlib import Path

import numpy as np
import pytest

from lab.market.attributes import BY_KIND, applies, complete
from lab.market.prompts import PHRASE_OF, ask_for, parse, vocabulary, write
from training.data.prepare import shuffled


def test_the_vocabulary_says_what_a_kind_needs() -> None:
    by_kind = {entry["kind"]: entry for entry in vocabulary().to_json()}
    for garment in ({"category": c, "sleeve": s} for c in BY_KIND["category"].values for s in BY_KIND["sleeve"].values):
        said = {PHRASE_OF[kind, value] for kind, value in garment.items() if applies(kind, garment)}
        for kind, entry in by_kind.items():
            if kind not in ("category", "sleeve"):
                assert all(said & set(needed) for needed in entry.get("only_with", [])) is applies(kind, garment)
    assert all(entry["phrases"] == list(BY_KIND[kind].phrases) for kind, entry in by_kind.items())
    assert json.loads(Path("training/weights/tiny/phrases.json").read_text()) == vocabulary().to_json(labels=True)


@pytest.mark.parametrize("seed", range(20))
def test_a_prompt_says_what_was_asked_for_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = ask_for(complete({}, rng), rng)
    prompt = write(asked)
    assert parse(prompt) == asked
    assert parse(shuffled(prompt, rng)) == asked
