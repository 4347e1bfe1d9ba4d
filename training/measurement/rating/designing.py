"""From a list of items and raters to a design: design.json, which the rating page reads, and key.json, which it does
not.

design.json has the protocol, the pictures under neutral names, and each rater's tasks in order. Nothing in it says how
a picture was made, which tasks are repeats, or which have a known answer. key.json says all of that, and binds itself
to the design by its SHA-256. docs/measuring.md has both formats, field by field. Knows items and raters; no answers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from training.common.reports import as_json, write_report
from training.measurement.errors import MeasurementError
from training.measurement.rating.items import Item
from training.measurement.rating.matching import Matched, balance, blocks, matched
from training.measurement.rating.orders import order, with_repeats
from training.measurement.rating.pictures import normalise
from training.measurement.rating.protocol import Protocol

DESIGN_FORMAT, KEY_FORMAT = "perfusion-rating-design/1", "perfusion-rating-key/1"
DESIGN, KEY, PICTURES = "design.json", "key.json", "pictures"


@dataclass(frozen=True)
class Planned:
    """A design before its pictures are made."""

    raters: list[dict[str, Any]]  # as design.json has them
    pictures: dict[str, Item]  # by neutral name
    sets: dict[str, int | None]  # picture → its set; None: gold
    tasks: dict[str, dict[str, Any]]  # as key.json has them
    balance: dict[str, int]
    matched: Matched


def planned(items: Sequence[Item], raters: Sequence[str], protocol: Protocol, seed: int) -> Planned:
    """Who rates what, in which order; the same seed gives the same design.

    Raises:
        MeasurementError: the items or raters do not make a comparison.
    """
    if len(raters) < 2:
        raise MeasurementError(f"a rating needs two raters at least, got {len(raters)}")
    rng = np.random.default_rng(seed)
    pairs = matched(items, rng)
    chosen = blocks(len(pairs.sets), len(raters), protocol.raters_per_picture, rng)
    names = _Names(rng)
    gold = [item for item in items if item.gold]
    pictures = {names.new(): item for item in [*(i for group in pairs.sets for i in group), *gold]}
    name_of = {item.item_id: name for name, item in pictures.items()}
    sets: dict[str, int | None] = {name_of[i.item_id]: n for n, group in enumerate(pairs.sets) for i in group}
    sets |= {name_of[item.item_id]: None for item in gold}
    tasks: dict[str, dict[str, Any]] = {}
    told = []
    for n in rng.permutation(len(raters)):
        own = {name: int(of) for name, of in sets.items() if of is not None and chosen[of, n]}
        order_seed = int(rng.integers(2**31))
        shown = _shown(own, [name_of[item.item_id] for item in gold], protocol, order_seed)
        asked = _origins(own, {name: pictures[name].method for name in own}, protocol.origin_pictures, order_seed)
        told.append(_rater(raters[n], order_seed, shown, asked, set(own), tasks, names))
    told.sort(key=lambda rater: rater["rater_id"])
    return Planned(told, pictures, sets, tasks, balance(chosen), pairs)


def write_design(
    items: Sequence[Item],
    raters: Sequence[str],
    out: Path,
    protocol: Protocol,
    reference: str,
    seed: int,
    now: datetime,
) -> dict[str, Any]:
    """Writes design.json, key.json and the pictures under `out`; returns what the key holds.

    Raises:
        MeasurementError: no such reference; a design lies there; a picture cannot be read.
    """
    if (out / DESIGN).exists():
        raise MeasurementError(f"{out / DESIGN} exists: a design is not changed once it is fixed; choose another --out")
    plan = planned(items, raters, protocol, seed)
    if reference not in plan.matched.methods:
        raise MeasurementError(f"the reference {reference!r} is none of {', '.join(plan.matched.methods)}")
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    files = {name: out / PICTURES / f"{name}.png" for name in plan.pictures}
    sizes = {name: normalise(plan.pictures[name].picture, file, protocol.size_px) for name, file in files.items()}
    digests = {name: _digest(file.read_bytes()) for name, file in files.items()}
    design, key = documents(plan, protocol, reference, seed, now, sizes, digests)
    write_report(out / KEY, key)  # first: a design without its key would be of no use
    write_report(out / DESIGN, design)
    return key


def documents(
    plan: Planned, protocol: Protocol, reference: str, seed: int, now: datetime,
    sizes: Mapping[str, tuple[int, int]], digests: Mapping[str, str],
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """What design.json and key.json hold.

    Args:
        sizes, digests: width and height of every picture's source, and the SHA-256 of its normalised file.
    """
    design = {
        "format": DESIGN_FORMAT,
        "design_id": _digest(as_json([seed, plan.raters]).encode())[:16],
        "created": now.isoformat(timespec="seconds"),
        "protocol": protocol.to_json(),
        "pictures": {
            name: {"file": f"{PICTURES}/{name}.png", "sha256": digests[name]} for name in sorted(plan.pictures)
        },
        "raters": plan.raters,
        "balance": plan.balance,
    }
    return design, _key(design, plan, sizes, reference, seed)


def design_digest(design: dict[str, Any]) -> str:
    """SHA-256 of a design, whatever its white space."""
    return _digest(json.dumps(design, sort_keys=True, separators=(",", ":")).encode())


def small_pictures(key: dict[str, Any], size_px: int) -> dict[str, int]:
    """By method, how many pictures had to be enlarged: their softness can give a method away."""
    small: dict[str, int] = {}
    for told in (told for told in key["pictures"].values() if told["set"] is not None):
        small[told["method"]] = small.get(told["method"], 0) + (max(told["source_size_px"]) < size_px)
    return small


class _Names:
    """Names of 16 hexadecimal digits, by chance, each once."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._given = rng, set[str]()

    def new(self) -> str:
        while (name := self._rng.bytes(8).hex()) in self._given:
            pass
        self._given.add(name)
        return name


def _shown(own: dict[str, int], gold: list[str], protocol: Protocol, seed: int) -> list[str]:
    """A rater's pictures in order; a repeat is a name that occurs again."""
    apart = {name: -1 - n for n, name in enumerate(gold)}
    first = order(own | apart, seed)
    return with_repeats(first, sorted(own), protocol.repeat_share, protocol.repeat_gap, seed)


def _origins(own: dict[str, int], method_of: dict[str, str], most: int, seed: int) -> list[str]:
    """Pictures of which the rater is asked last who made them: of each method equally many, as far as they go."""
    rng = np.random.default_rng([seed, 2])
    by_method = {m: [p for p in sorted(own) if method_of[p] == m] for m in sorted(set(method_of.values()))}
    each = min([most // max(1, len(by_method)), *map(len, by_method.values())])
    chosen = [of[n] for of in by_method.values() for n in rng.choice(len(of), each, replace=False)]
    return [chosen[n] for n in rng.permutation(len(chosen))]


def _rater(
    rater_id: str, seed: int, shown: list[str], asked: list[str], own: set[str],
    tasks: dict[str, dict[str, Any]], names: _Names,
) -> dict[str, Any]:  # fmt: skip
    """One rater as design.json has them; adds their tasks to those of the key."""
    told, first = [], dict[str, str]()
    for picture in shown:
        task_id = names.new()
        kind = "gold" if picture not in own else "repeat" if picture in first else "first"
        tasks[task_id] = {"kind": kind, "repeat_of": first.get(picture) if kind == "repeat" else None}
        first.setdefault(picture, task_id)
        told.append({"task_id": task_id, "kind": "rate", "picture": picture})
    for picture in asked:
        task_id = names.new()
        tasks[task_id] = {"kind": "origin", "repeat_of": None}
        told.append({"task_id": task_id, "kind": "origin", "picture": picture})
    return {"rater_id": rater_id, "order_seed": seed, "tasks": told}


def _key(
    design: dict[str, Any], plan: Planned, sizes: Mapping[str, tuple[int, int]], reference: str, seed: int
) -> dict[str, Any]:
    return {
        "format": KEY_FORMAT,
        "design_id": design["design_id"],
        "design_sha256": design_digest(design),
        "seed": seed,
        "reference": reference,
        "methods": list(plan.matched.methods),
        "pictures": {
            name: {
                "item_id": item.item_id, "category": item.category, "method": item.method, "set": plan.sets[name],
                "gold": item.gold or None, "source": str(item.picture), "source_size_px": list(sizes[name]),
            }
            for name, item in plan.pictures.items()
        },
        "tasks": plan.tasks,
        "left_out": [item.item_id for item in plan.matched.left_out],
    }  # fmt: skip


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
