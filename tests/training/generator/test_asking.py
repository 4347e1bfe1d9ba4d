"""Requests that a student learns from: the same by their number, with wishes, and now and then out of the ordinary."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.training.generator.shops import group
from training.data.columns import SCHEMA
from training.data.groups import GroupError, GroupTensors
from training.data.table import write_table
from training.generator.asking import Asker, Asking
from training.generator.distil_recipes import DistilRecipe
from training.models.family import FamilyPaths

RECIPE = DistilRecipe(jump_steps=1, way_steps=1, lr=1e-3, way_lr=1e-3)
ORDINARY = replace(RECIPE, unknown=0.0, varied=0.0)
ASKER = Asker(["dress,red", "coat,belted"], np.array([[1, 1, 0, 2], [2, 2, 3, 4]]))
SHAPE = (4, 8, 8)


def test_the_same_number_asks_the_same(family: FamilyPaths) -> None:
    asking = Asking(ASKER, family, RECIPE, SHAPE)
    first, again, other = asking.draw(3, 8), asking.draw(3, 8), asking.draw(4, 8)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(first).items())
    assert not torch.equal(first.noise, other.noise) and first.noise.shape == (8, *SHAPE)


def test_known_merchants_have_wishes_and_unknown_ones_none(family: FamilyPaths) -> None:
    known = Asking(ASKER, family, ORDINARY, SHAPE).draw(0, 8)
    asking = Asking(ASKER, family, replace(ORDINARY, unknown=1.0), SHAPE)
    unknown = asking.draw(0, 8)
    plain = asking.states(ASKER.prompts)
    is_plain = [[torch.equal(text, row) for row in plain] for text in known.text]
    assert not np.any(is_plain) and known.features.any()
    assert not unknown.features.any()
    without = Asking(ASKER, replace(family, preferences=Path("absent")), ORDINARY, SHAPE).draw(0, 8)
    assert all(any(torch.equal(text, row) for row in plain) for text in without.text)


def test_what_varies_is_the_guidance_the_adapter_scale_and_the_negative_prompt(family: FamilyPaths) -> None:
    ordinary = Asking(ASKER, family, ORDINARY, SHAPE)
    fixed, varied = ordinary.draw(0, 8), Asking(ASKER, family, replace(ORDINARY, varied=1.0), SHAPE).draw(0, 8)
    assert (fixed.guidance == 4).all() and (fixed.adapter_scale == 1).all()
    assert torch.equal(fixed.negative_text, ordinary.no_text.expand_as(fixed.negative_text))
    assert ((varied.guidance >= 1) & (varied.guidance <= 8)).all() and len(varied.guidance.unique()) == 8
    assert ((varied.adapter_scale >= 0) & (varied.adapter_scale <= 2)).all()
    assert not any(torch.equal(text, ordinary.no_text[0]) for text in varied.negative_text)


def test_prompts_and_profiles_of_a_table_are_read_without_its_pictures(
    family: FamilyPaths, tmp_path: Path, schema, groups: GroupTensors
) -> None:
    rng = np.random.default_rng(0)
    told = [group(n, rng) for n in range(3)]
    gone = [replace(g, candidates=tuple(replace(c, image=None, uri="gone.png") for c in g.candidates)) for g in told]
    write_table(tmp_path / "table", gone, schema)
    asker = Asker.of_data(tmp_path / "table", family)
    assert asker.prompts == [g.prompt for g in told]
    assert asker.features.tolist() == [list(schema.encode(g.features).slots) for g in told]
    groups.save(tmp_path / "arrays")
    with pytest.raises(GroupError, match="tokens only"):
        Asker.of_data(tmp_path / "arrays", family)
    write_table(tmp_path / "empty", [], schema)
    pq.write_table(SCHEMA.empty_table(), tmp_path / "empty" / "groups-00000.parquet")
    with pytest.raises(GroupError, match="has no groups"):
        Asker.of_data(tmp_path / "empty", family)
