"""A family out of a base and trained parts: whole, of its own, and never half there."""

import json
from dataclasses import replace
from pathlib import Path

from training.models.family import FamilyPaths
from training.retraining.family import assemble
from training.retraining.trained_on import TrainedOn, trained_on


def test_trained_parts_stand_in_the_place_of_the_base_familys(family: FamilyPaths, tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "config.json").write_text("{}")
    (tmp_path / "out.new" / "half").mkdir(parents=True)  # left by a kill
    base, record = replace(family, adapter=tmp_path / "absent"), {"table": "groups"}
    made = assemble(base, {"preferences": tmp_path / "trained"}, record, TrainedOn(), tmp_path / "out")
    assert json.loads(made.retraining.read_text()) == record
    assert trained_on(tmp_path / "out") == TrainedOn()
    assert [path.name for path in made.preferences.iterdir()] == ["config.json"]
    assert not made.adapter.exists() and not (tmp_path / "out" / "half").exists()
    ours, theirs = made.perfusion_rm / "config.json", base.perfusion_rm / "config.json"
    assert ours.read_bytes() == theirs.read_bytes() and not ours.samefile(theirs)
    assert made.schema() == base.schema() and made.vocabulary() == base.vocabulary()
