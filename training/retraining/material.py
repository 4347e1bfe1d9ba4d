"""What a retraining learns from, as trainings read it: original and new groups mixed, with weights, tags and pictures.

Knows tables, the cache of their pictures and tensors; nothing about what trains on them.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from training.common.runs import held
from training.data.groups import GroupError, GroupTensors
from training.data.prepare import stack, tokenise
from training.data.table import Group, name_of
from training.models.family import FamilyPaths
from training.retraining.mixture import Mixture, informative, mix
from training.retraining.orders import Orders
from training.retraining.sources import UNREACHABLE, PictureCache, Source
from training.wishes.tagging import ABSENT, Tagger
from training.wishes.training import check_enough

MOST_UNREACHABLE = 0.1  # share of a table's groups; they are left out


@dataclass(frozen=True, eq=False)
class Material:
    """The mixed groups as trainings read them."""

    groups: GroupTensors
    tags: np.ndarray  # (N, K, kinds)
    mixture: Mixture
    left_out: Counter[str]
    trained: frozenset[str]  # ids of the collected groups

    def text(self) -> str:
        """For a person."""
        of = self.mixture
        return (
            f"{of.new} new groups of weight {of.new_weights.mean():.3g} and "
            f"{of.original} original ones of weight {of.original_weight:.3g}: "
            f"{of.original_share:.0%} original data, worth {of.effective_groups:.0f} groups of equal weight"
        )


@dataclass(frozen=True)
class Table:
    """A table, which of its groups train, and where its pictures are kept."""

    path: Path
    wanted: Collection[str]  # ids
    cache: Path


def gather(
    original: Table, new: Table, family: FamilyPaths, share: float, pixels: Path | None, orders: Orders | None = None
) -> Material:
    """The groups of both tables, mixed by `share`.

    Args:
        pixels: where the pictures are put together, for trainings that read them; None: tags are enough.
        orders: of the new groups, to count beside their picks.

    Raises:
        GroupError: there is too little to learn from.
    """
    tagger, size_px = Tagger(family, family.vocabulary()), family.clip().config.vision_config.image_size
    read = list[tuple[PictureCache, Source]]()
    for table in (original, new):
        with held(table.cache, wait=True):
            cache = PictureCache(table.cache, tagger, size_px, pixels=pixels is not None)
            read.append((cache, cache.read(table.path, table.wanted, name_of(table.path))))
            _check_reachable(read[-1][1], table)
    groups = [group for _, source in read for group in source.groups]
    check_enough(sum(map(informative, groups)), f"{original.path} and {new.path}")
    read[1][0].forget_others(read[1][1])
    mixture = mix(read[0][1].groups, read[1][1].groups, share, orders.worth if orders else None)
    ids = tokenise([group.prompt for group in groups], family.reward_tokenizer(), 0)
    tensors = replace(stack(groups, ids, family.schema()).rows(mixture.order), weights=mixture.weights)
    if orders:
        tensors = replace(tensors, counts=_counts(orders, groups, tensors.selected.shape, mixture))
    (n, k), places = tensors.selected.shape, np.argsort(mixture.order)  # places: of each group in the mixture
    rows = np.split(places, [len(read[0][1].groups)])
    tags = np.full((n, k, len(tagger.vocabulary.kinds)), ABSENT, np.int64)
    for (cache, source), of_source in zip(read, rows, strict=True):
        cache.fill_tags(source, tags, of_source)
    if pixels is not None:
        pixels.parent.mkdir(parents=True, exist_ok=True)
        images = open_memmap(pixels, mode="w+", dtype=np.uint8, shape=(n, k, size_px, size_px, 3))
        for (cache, source), of_source in zip(read, rows, strict=True):
            cache.fill_pixels(source, images, of_source)
        tensors = replace(tensors, images=images)
    left_out = sum((source.left_out for _, source in read), Counter[str]())
    trained = frozenset(group.group_id for group in read[1][1].groups)
    return Material(tensors, tags, mixture, left_out, trained)


def _counts(orders: Orders, groups: Sequence[Group], shape: tuple[int, ...], mixture: Mixture) -> np.ndarray:
    """How much each candidate counts, float32 (N, K), in the order of the mixture."""
    counts = np.ones(shape, np.float32)
    for row, place in enumerate(mixture.order):
        of = orders.counts(groups[place])
        counts[row, : len(of)] = of
    return counts


def _check_reachable(source: Source, table: Table) -> None:
    """Refuses a table of which many pictures are not there: their folder may not be mounted, and the cache would forget
    them."""
    gone = source.left_out[UNREACHABLE]
    if gone > MOST_UNREACHABLE * len(table.wanted):
        raise GroupError(
            f"{gone} of {len(table.wanted)} groups of {table.path} have {UNREACHABLE}, more than "
            f"{MOST_UNREACHABLE:.0%}: see that the place of its pictures can be read"
        )
