"""A whole family exported: the contract kept, the numbers right, nothing done twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from contract.errors import InputError, VocabularyError
from contract.feature_schema import Feature, FeatureSchema
from contract.release import MANIFEST, ModelFiles, read_release
from contract.repository import EXPORT, LockedError, Repository, sha256
from tests.training.exporting.stand_in import stand_in
from tests.training.loud import make_loud
from training.common.errors import WeightsError
from training.exporting import staging
from training.exporting.errors import ContractError, ExportError
from training.exporting.family_contracts import write_contracts
from training.exporting.graphs import BUILDERS
from training.exporting.release import newest
from training.exporting.staging import ModelJob, export_family, export_one
from training.models.family import FamilyPaths
from training.models.reward_model import PerFusionRM

COMMITTED = Path("model_repository").absolute()


def linked(repository: Repository, old: int, new: int) -> set[str]:
    """Models that two releases share."""
    files = {model: [repository.model_dir(model, n) / "model.onnx" for n in (old, new)] for model in BUILDERS}
    return {model for model, (one, other) in files.items() if one.samefile(other)}


def nothing(*_: object) -> dict[str, ModelFiles]:
    raise AssertionError("nothing may be exported")


def of_schema(family: FamilyPaths, schema: FeatureSchema, root: Path) -> FamilyPaths:
    """The family with reward plug-ins of another schema, without adapter and preferences."""
    schema.write(root / "feature_schema.json")
    make_loud(PerFusionRM(family.clip(), schema)).save(root / "perfusion_rm")
    absent = {"adapter": root / "absent", "preferences": root / "absent"}
    own = {"feature_schema": root / "feature_schema.json", "perfusion_rm": root / "perfusion_rm"}
    return replace(family, **own, **absent)


def test_every_model_is_there_and_within_its_tolerance(exported: Repository) -> None:
    manifest = exported.check(1)
    assert set(manifest.models) == set(BUILDERS)
    for model, entry in manifest.models.items():
        assert entry.max_abs_error <= entry.tolerance
        found = {path.name: sha256(path) for path in exported.model_dir(model, 1).iterdir()}
        assert found == entry.files


def test_what_is_exported_is_read_as_a_release(exported: Repository, published: FamilyPaths) -> None:
    release = read_release(exported.release_dir(1))
    assert release.number == 1 and release.manifest == newest(exported)
    assert release.feature_schema == published.schema() and release.vocabulary == published.vocabulary()
    sizes = release.sizes
    assert (sizes.image_size_px, sizes.latent_channels, sizes.latent_size, sizes.text_tokens) == (64, 4, 8, 77)
    assert (sizes.text_width, sizes.reward_width) == (64, 96)
    assert release.tokenizer_file.is_file() and release.reward_tokenizer_file.is_file()


def test_the_exported_user_encoder_reads_no_features_beyond_those_in_use(family: FamilyPaths, tmp_path: Path) -> None:
    write_contracts(family, COMMITTED, tmp_path)
    entry, _ = export_one(ModelJob("user_encoder", family, tmp_path, tmp_path / "staged", "a fingerprint"))
    path = tmp_path / "staged" / "model.onnx"
    assert entry.files == {"model.onnx": sha256(path)} and entry.max_abs_error <= entry.tolerance
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features = np.zeros((2, 32), np.int64)
    features[:, :4] = [[1, 1, 0, 2], [2, 2, 3, 4]]
    expected = session.run(None, {"features": features})
    features[:, 4:] = 99
    for found, wanted in zip(session.run(None, {"features": features}), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    favours = dict(zip([output.name for output in session.get_outputs()], expected, strict=True))["favours"]
    assert favours[0].any() and not np.allclose(*favours)


def test_an_unchanged_family_is_not_exported_again(exported: Repository, published: FamilyPaths) -> None:
    assert export_family(published, exported, processes=1) == 1


def test_a_family_that_does_not_fit_leaves_no_release(copied: Repository, published: FamilyPaths) -> None:
    config = copied.root / "text_encoder" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 77, 64 ]", "dims: [ 77, 65 ]"))
    with pytest.raises(ContractError, match=r"hidden FP32\[77,64\]"):
        export_family(published, copied, processes=1)
    assert copied.numbers() == [1]
    assert json.loads((copied.release_dir(1) / "feature_schema.json").read_text())["version"] == 1


def test_other_phrases_make_a_release_of_the_same_models_but_the_one_that_tells_their_favours(
    copied: Repository, published: FamilyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_export_all", stand_in)
    (tmp_path / "phrases.json").write_text('[{"kind": "hem", "phrases": ["raw hem"]}]')
    others = replace(published, phrases=tmp_path / "phrases.json", preferences=tmp_path / "absent")
    assert export_family(others, copied, processes=1) == 2
    assert "raw hem" in (copied.release_dir(2) / "phrases.json").read_text()
    assert linked(copied, 1, 2) == set(BUILDERS) - {"user_encoder"}
    manifest = newest(copied)
    assert manifest is not None and manifest.in_use.phrases == 1
    assert manifest.sizes == read_release(copied.release_dir(1)).sizes  # and so both can be in service


def test_a_release_of_one_feature_more_lies_beside_the_live_one_which_serves_on(
    copied: Repository, published: FamilyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.point(1, None)
    monkeypatch.setattr(staging, "_export_all", stand_in)
    more = FeatureSchema((*published.schema().features, Feature("channel", "categorical", ("app", "web"))), 2)
    assert export_family(of_schema(published, more, tmp_path), copied, processes=1) == 2
    old, new = (read_release(copied.release_dir(n)) for n in (1, 2))
    assert (old.feature_schema, new.feature_schema) == (published.schema(), more)
    assert (old.manifest.in_use.feature_slots, new.manifest.in_use.feature_slots) == (9, 10)
    assert old.sizes == new.sizes
    assert all(copied.model_dir(model, n).is_dir() for model in BUILDERS for n in (1, 2))
    assert (copied.live(), copied.fallback()) == (1, None)


def test_a_schema_larger_than_the_contract_is_refused_with_the_remedy_before_anything_is_exported(
    copied: Repository, published: FamilyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_export_all", nothing)
    added = tuple(Feature(f"feature {n}", "categorical", ("yes", "no")) for n in range(24))
    large = FeatureSchema((*published.schema().features, *added))
    told = "feature_slots: this family uses 33, config.pbtxt has room for 32; it needs a repository of its own"
    with pytest.raises(ContractError, match=rf"{told} \(training\.exporting\.write_contracts\)"):
        export_family(of_schema(published, large, tmp_path), copied, processes=1)
    assert copied.numbers() == [1]


def test_an_old_release_that_nobody_can_read_stays_for_the_next_pruning(
    copied: Repository, published: FamilyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_export_all", stand_in)
    (copied.release_dir(1) / "manifest.json").write_text('{"release": 1, "choice_width": 43}')
    copied.point(1, None)
    assert export_family(published, copied, processes=1) == 2
    assert all(copied.model_dir(model, 1).exists() for model in BUILDERS)
    assert copied.check(2).release == 2 and copied.live() == 1


def test_other_tensor_sizes_are_refused_beside_the_live_release_before_anything_is_exported(
    copied: Repository, published: FamilyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_export_all", nothing)
    copied.point(1, None)
    manifest = copied.release_dir(1) / MANIFEST
    said = json.loads(manifest.read_text())
    said["sizes"]["reward_width"] = 16
    manifest.write_text(json.dumps(said))
    with pytest.raises(
        ContractError, match=r"release 1, which is live .*reward_width 16, now 96.*repository of its own"
    ):
        export_family(published, copied, processes=1)
    assert copied.check(1).release == 1


def test_one_export_at_a_time(copied: Repository, published: FamilyPaths) -> None:
    with copied.lock(EXPORT, "an export"), pytest.raises(LockedError, match="is held by an export"):
        export_family(published, copied, processes=1)


def test_a_missing_component_is_named_before_anything_is_exported(
    exported: Repository, published: FamilyPaths, tmp_path: Path
) -> None:
    shutil.copytree(published.pipeline, tmp_path / "pipeline")
    shutil.rmtree(tmp_path / "pipeline" / "vae")
    shutil.rmtree(tmp_path / "pipeline" / "unet")
    for backbone, told in ((published.pipeline / "unet", "lacks vae$"), (tmp_path / "none", "lacks unet, vae$")):
        with pytest.raises(WeightsError, match=told):
            export_family(replace(published, pipeline=tmp_path / "pipeline", backbone=backbone), exported, processes=1)
    assert exported.numbers() == [1]


@pytest.mark.parametrize(
    ("name", "text", "error", "told"),
    [
        ("defaults", '{"sampler": "heun"}', WeightsError, "defaults.json: sampler is 'heun'"),
        ("phrases", '[{"kind": "hem", "phrases": ["raw hem"],}]', VocabularyError, "phrases.json cannot be read"),
        ("phrases", '[{"kind": "hem"}]', VocabularyError, "phrases.json: entry 0 is not"),
    ],
)
def test_files_that_services_could_not_read_are_refused_before_anything_is_exported(
    exported: Repository,
    published: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    error: type[InputError],
    told: str,
) -> None:
    monkeypatch.setattr(staging, "_export_all", nothing)
    (tmp_path / f"{name}.json").write_text(text)
    with pytest.raises(error, match=told):
        export_family(replace(published, **{name: tmp_path / f"{name}.json"}), exported, processes=1)
    assert exported.numbers() == [1]


def test_only_what_changed_is_exported_into_the_next_release(
    copied: Repository, published: FamilyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_export_all", stand_in)
    config = copied.root / "text_encoder" / "config.pbtxt"
    config.write_text(config.read_text() + "# changed\n")
    assert export_family(published, copied, processes=1) == 2
    assert linked(copied, 1, 2) == set(BUILDERS) - {"text_encoder"}

    config.write_text(config.read_text().replace("# changed\n", ""))
    assert export_family(published, copied, processes=1) == 3
    assert linked(copied, 1, 3) == set(BUILDERS), "what an older release holds is not exported again"


@pytest.mark.parametrize("error", [ExportError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_an_export_that_ends_early_leaves_nothing_behind_and_nothing_of_a_killed_one(
    published: FamilyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def end(jobs: list[ModelJob], _: int) -> dict[str, ModelFiles]:
        for job in jobs:
            job.into.mkdir(parents=True)
            (job.into / "model.onnx").write_text("half")
        raise error

    monkeypatch.setattr(staging, "_export_all", end)
    root = tmp_path / "a repository"
    write_contracts(published, COMMITTED, root)
    (root / "releases").mkdir()
    (root / "releases" / EXPORT).touch()
    before = set(root.rglob("*"))
    for left in ("releases/.staging-4/denoiser/model.onnx", "denoiser/1/model.onnx", "releases/1/phrases.json"):
        (root / left).parent.mkdir(parents=True)
        (root / left).write_text("half")
    with pytest.raises(type(error)):
        export_family(published, Repository(root), processes=1)
    assert set(root.rglob("*")) == before
