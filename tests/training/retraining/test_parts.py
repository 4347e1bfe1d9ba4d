"""The adapter's part: on groups alone that a release with the base family's generator drew; and the reward's."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from contract.feature_schema import FeatureSchema
from contract.release import Manifest
from contract.repository import Repository
from tests.contract.test_release import MANIFEST
from tests.training.retraining.shops import shown, table
from training.data.groups import GroupError
from training.data.prepare import stack
from training.exporting.manifest import weights_of
from training.generator.asking import Asker
from training.generator.distil_recipes import DistilRecipe
from training.generator.recipes import tiny
from training.models.family import FamilyPaths
from training.retraining import parts
from training.retraining.material import Material
from training.retraining.mixture import mix
from training.retraining.parts import drawn_by, releases_drawing_like, train_adapter, train_student
from training.retraining.plan import STAGES, Plan


@pytest.fixture
def repository(family: FamilyPaths, tmp_path: Path) -> Repository:
    """Release 1 is the family; 2 has other wishes and reward models; 3 another U-Net; 4 is damaged."""
    own = weights_of(family)
    retrained = {
        name: digest if name.startswith(("pipeline", "backbone", "adapter")) else "0" for name, digest in own.items()
    }
    other = own | {"backbone/diffusion_pytorch_model.safetensors": "0"}
    for number, weights in ((1, own), (2, retrained), (3, other)):
        manifest: Manifest = replace(MANIFEST, release=number, weights=weights)
        folder = tmp_path / "models" / "releases" / str(number)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))
    (tmp_path / "models" / "releases" / "4").mkdir()
    (tmp_path / "models" / "releases" / "4" / "manifest.json").write_text("{}")
    return Repository(tmp_path / "models")


def test_releases_with_other_wishes_draw_alike(family: FamilyPaths, repository: Repository) -> None:
    assert releases_drawing_like(family, repository) == {1, 2}


def test_a_group_counts_if_all_of_its_candidates_were_drawn_so(tmp_path: Path, schema: FeatureSchema) -> None:
    drawn = {"own": (1, 2), "mixed": (1, 3), "other": (3, 3), "unsaid": (None, None)}
    rows = [
        {
            "group_id": name, "user_id": "u", "prompt": "dress", "features": "{}", "release": 2,
            "candidates": [
                {"image_id": f"{name}{at}", "uri": "x.png", "selected": at == 0, "release": release}
                for at, release in enumerate(releases)
            ],
        }
        for name, releases in drawn.items()
    ]  # fmt: skip
    write_deltalake(str(tmp_path / "groups"), pa.Table.from_pylist(rows))
    schema.write(tmp_path / "groups" / "feature_schema.json")
    found = [group.group_id for group in drawn_by(tmp_path / "groups", {1, 2}, set(drawn))]
    assert sorted(found) == ["own", "unsaid"]  # unsaid: the group's release drew all
    assert [group.group_id for group in drawn_by(tmp_path / "groups", {1, 2}, {"own"})] == ["own"]


def test_the_adapter_trains_on_what_the_family_drew(
    family: FamilyPaths, repository: Repository, tmp_path: Path, schema: FeatureSchema
) -> None:
    by_release = [replace(group, release=1 if n % 4 else 3) for n, group in enumerate(shown(24, "g"))]
    data = table(tmp_path / "groups", by_release, schema)
    recipes = {stage: replace(tiny(stage), steps=2, groups_per_batch=4, sheet_every=0) for stage in STAGES}
    plan = Plan(data, data, Path(), tmp_path / "run", ("adapter",), adapter=recipes, repository=repository.root)
    mixture = mix(by_release, by_release, 0.3)
    trained = frozenset(group.group_id for group in by_release)
    material = Material(None, np.zeros(0), mixture, Counter(), trained)  # type: ignore[arg-type]  # the adapter reads its own
    base = replace(family, adapter=tmp_path / "absent")  # a silent one is where it starts
    with pytest.raises(GroupError, match="drew no group that trains .*there are none"):
        train_adapter(plan, base, data, material)
    own = weights_of(base)
    for number in (1, 2):
        path = repository.release_dir(number) / "manifest.json"
        path.write_text(json.dumps(replace(MANIFEST, release=number, weights=own).to_json()))
    made, figures = train_adapter(plan, base, data, material)
    assert (set(made), figures) == ({"adapter"}, {"groups": 18, "releases": [1, 2]})
    place = made["adapter"]
    assert not [path for path in (tmp_path / "run" / "adapter").rglob("*") if path.suffix in (".parquet", ".npy")]
    whole = replace(base, adapter=place)
    assert whole.perfusion(whole.backbone_unet()) is not None
    kept = (place / "adapter.safetensors").read_bytes()
    assert train_adapter(plan, base, data, material)[0] == made and (place / "adapter.safetensors").read_bytes() == kept


def test_a_student_is_asked_what_the_groups_ask_and_takes_more_than_one_place(
    family: FamilyPaths, tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = stack(list(shown(3, "g")), np.zeros((3, 1, 77), np.int64), schema)
    material = Material(groups, np.zeros(0), mix(list(shown(1, "o")), list(shown(1, "n")), 0.3), Counter(), frozenset())
    plan = Plan(Path(), Path(), Path(), tmp_path / "run", ("student",))
    asked = list[tuple[object, ...]]()

    def distil(recipe: DistilRecipe, asker: Asker, of: FamilyPaths, out: Path, work: Path) -> dict[str, Path]:
        asked.append((recipe, list(asker.prompts), asker.features.tolist(), of, work))
        (out / "ways").mkdir(parents=True)
        (out / "ways" / "log.jsonl").write_text('{"step": 1}\n{"step": 2, "loss": 3, "held_out_last": 0.5}\n')
        return {"backbone": out / "unet", "defaults": out / "defaults.json"}

    monkeypatch.setattr(parts, "distil", distil)
    made, figures = train_student(plan, family, Path(), material)
    prompts, features = [group.prompt for group in shown(3, "g")], groups.features.tolist()
    assert asked == [(plan.student, prompts, features, family, tmp_path / "run" / "work" / "student")]
    assert made.keys() == {"backbone", "defaults"} and figures == {"held_out_last": 0.5}
