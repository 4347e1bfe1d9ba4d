"""What trainings read: groups of two tables mixed, each with its own tags, pictures and weight."""

from pathlib import Path

import numpy as np

from contract.feature_schema import FeatureSchema
from tests.training.retraining.shops import shown, table
from training.data.prepare import decode
from training.models.family import FamilyPaths
from training.retraining.material import Table, gather
from training.wishes.tagging import ABSENT, Tagger


def test_every_group_keeps_its_own(tmp_path: Path, schema: FeatureSchema, root: Path) -> None:
    family = FamilyPaths.under(root)
    old, new = list(shown(12, "o", seed=1, candidates=2)), list(shown(30, "g"))
    tables = [
        Table(table(tmp_path / name, groups, schema), {group.group_id for group in groups}, tmp_path / f"cache-{name}")
        for name, groups in (("old", old), ("new", new))
    ]
    material = gather(*tables, family, 0.5, tmp_path / "work" / "pixels.npy")
    groups, tags = material.groups, material.tags
    assert groups.group_ids is not None and groups.images is not None and groups.weights is not None
    assert groups.selected.shape == (42, 3) and material.trained == {group.group_id for group in new}
    tagger, by_id = Tagger(family, family.vocabulary()), {group.group_id: group for group in [*old, *new]}
    for row, name in enumerate(groups.group_ids.tolist()):
        group, k = by_id[name], len(by_id[name].candidates)
        pictures = np.stack([decode(candidate.image or b"", 64) for candidate in group.candidates])
        np.testing.assert_array_equal(groups.images[row, :k], pictures)
        np.testing.assert_array_equal(tags[row, :k], tagger(pictures))
        assert groups.selected[row, :k].tolist() == [candidate.selected for candidate in group.candidates]
        assert groups.there[row].tolist() == [True] * k + [False] * (3 - k) and (tags[row, k:] == ABSENT).all()
        assert groups.weights[row] == (2.5 if name.startswith("o") else 1)
        assert groups.features[row].tolist() == list(family.schema().encode(dict(group.features)).slots)
    assert "50% original data" in material.text() and material.left_out == {}
