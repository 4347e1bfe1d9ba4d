"""A whole family exported: the contract kept, the numbers right, nothing done twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from training.common.errors import ModelError, WeightsError
from training.exporting.errors import ContractError, ExportError
from training.exporting.export import export_family
from training.exporting.graphs import BUILDERS
from training.exporting.release import Repository, sha256
from training.models.family import FamilyPaths

COMMITTED = Path(__file__).parents[2] / "model_repository"
SIZES = {  # the test family's in place of the tiny family's
    "[ 77, 64 ]": "[ 77, 12 ]",
    "[ 64, 64, 3 ]": "[ 16, 16, 3 ]",
    "[ 112 ]": "[ 24 ]",
    "[ 224 ]": "[ 24 ]",
    "[ 96 ]": "[ 8 ]",
    "[ 9 ]": "[ 4 ]",
    "[ 43 ]": "[ 1 ]",  # an adapter without user prompt
}


@pytest.fixture(scope="module")
def exported(family: FamilyPaths, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """All seven models of the smallest family."""
    root = tmp_path_factory.mktemp("repository")
    for model in BUILDERS:
        (root / model).mkdir()
        (root / model / "config.pbtxt").write_text(_resized((COMMITTED / model / "config.pbtxt").read_text()))
    repository = Repository(root)
    assert export_family(family, repository, processes=2) == 1
    return repository


def _resized(config: str) -> str:
    for committed, ours in SIZES.items():
        config = config.replace(committed, ours)
    return config


def test_every_model_is_there_and_within_its_tolerance(exported: Repository) -> None:
    manifest = exported.current()
    assert manifest is not None and set(manifest["models"]) == set(BUILDERS)
    for model, entry in manifest["models"].items():
        assert entry["max_abs_error"] <= entry["tolerance"]
        assert [p.name for p in exported.model_dir(model, 1).iterdir()] == list(entry["files"])


def test_the_manifest_says_what_services_need(exported: Repository, family: FamilyPaths) -> None:
    manifest = exported.current()
    assert manifest is not None
    sizes = {"image_size_px": 16, "latent_channels": 4, "latent_size": 8, "text_tokens": 77}
    widths = {
        "text_width": 12,
        "generator_user_width": 24,
        "reward_user_width": 24,
        "reward_width": 8,
        "choice_width": 1,
        "feature_slots": 4,
    }
    assert sizes.items() <= manifest.items() and widths.items() <= manifest.items()
    scale = family.clip().logit_scale.exp().item()
    assert manifest["reward_logit_scale"] == pytest.approx(scale, rel=1e-3)
    assert manifest["scheduler"]["beta_schedule"] == "scaled_linear"
    assert set(manifest["defaults"]) == {"guidance_scale", "adapter_scale", "num_steps", "scheduler"}
    weights = manifest["weights"]
    assert "adapter/adapter.safetensors" in weights
    drawing = family.backbone_files / "diffusion_pytorch_model.safetensors"
    assert weights["backbone/diffusion_pytorch_model.safetensors"] == sha256(drawing)
    assert not any(name.startswith("pipeline/unet/") for name in weights), "the backbone draws, not the pipeline's"


def test_the_tokenizer_cuts_and_pads_by_itself(exported: Repository, family: FamilyPaths) -> None:
    tokenizer = Tokenizer.from_file(str(exported.release_dir(1) / "tokenizer.json"))
    for prompt in ("", "dress,red", "dress," * 200):
        ids = family.tokenizer()(prompt, padding="max_length", truncation=True, max_length=77)["input_ids"]
        assert tokenizer.encode(prompt).ids == ids


def test_an_unchanged_family_is_not_exported_again(exported: Repository, family: FamilyPaths) -> None:
    assert export_family(family, exported, processes=1) == 1


def test_a_family_that_does_not_fit_leaves_the_old_release_in_service(
    exported: Repository, family: FamilyPaths, tmp_path: Path
) -> None:
    shutil.copytree(exported.root, tmp_path / "repository")
    repository = Repository(tmp_path / "repository")
    config = repository.root / "text_encoder" / "config.pbtxt"
    config.write_text(config.read_text().replace("[ 77, 12 ]", "[ 77, 13 ]"))
    with pytest.raises(ContractError, match=r"hidden FP32\[77,12\]"):
        export_family(family, repository, processes=1)
    current = repository.current()
    assert current is not None and current["release"] == 1
    assert json.loads((repository.release_dir(1) / "feature_schema.json").read_text())["version"] == 1


def test_other_phrases_make_a_release_of_the_same_models(
    exported: Repository, family: FamilyPaths, tmp_path: Path
) -> None:
    shutil.copytree(exported.root, tmp_path / "repository")
    repository = Repository(tmp_path / "repository")
    (tmp_path / "phrases.json").write_text('[{"kind": "hem", "phrases": ["raw hem"]}]')
    assert export_family(replace(family, phrases=tmp_path / "phrases.json"), repository, processes=1) == 2
    assert "raw hem" in (repository.release_dir(2) / "phrases.json").read_text()
    files = [[repository.model_dir(model, n) / "model.onnx" for n in (1, 2)] for model in BUILDERS]
    assert all(one.samefile(other) for one, other in files)


def test_a_missing_component_is_named_before_anything_is_exported(
    exported: Repository, family: FamilyPaths, tmp_path: Path
) -> None:
    shutil.copytree(family.pipeline, tmp_path / "pipeline")
    shutil.rmtree(tmp_path / "pipeline" / "vae")
    shutil.rmtree(tmp_path / "pipeline" / "unet")
    for backbone, told in ((family.pipeline / "unet", "lacks vae$"), (tmp_path / "none", "lacks unet, vae$")):
        with pytest.raises(WeightsError, match=told):
            export_family(replace(family, pipeline=tmp_path / "pipeline", backbone=backbone), exported, processes=1)
    current = exported.current()
    assert current is not None and current["release"] == 1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("defaults", '{"scheduler": "heun"}', "scheduler is 'heun'"),
        ("defaults", '{"num_steps": 200}', "num_steps is 200, not a number from 1 to 100"),
        ("defaults", '{"guidance_scale": NaN}', "guidance_scale is nan"),
        ("defaults", '{"adapter_scale": "much"}', "adapter_scale is 'much'"),
        ("defaults", '{"steps": 20}', r"unknown settings \['steps'\]"),
        ("defaults", '["ddim"]', "holds a list, not a dict"),
        ("phrases", '[{"kind": "hem", "phrases": ["raw hem"],}]', "phrases.json cannot be read"),
        ("phrases", '[{"kind": "hem"}]', "entry 0 is not"),
        ("phrases", '[{"kind": "hem", "phrases": []}]', "entry 0: kind is one text, phrases are one or more"),
        ("phrases", '[{"kind": "hem", "phrases": ["raw hem"], "only_with": ["dress"]}]', "only_with has lists"),
    ],
)
def test_files_that_services_could_not_read_are_refused_before_anything_is_exported(
    exported: Repository, family: FamilyPaths, tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / f"{name}.json").write_text(text)
    with pytest.raises((ExportError, ModelError), match=told):
        export_family(replace(family, **{name: tmp_path / f"{name}.json"}), exported, processes=1)
    current = exported.current()
    assert current is not None and current["release"] == 1


def test_only_what_changed_is_exported_into_the_next_release(
    exported: Repository, family: FamilyPaths, tmp_path: Path
) -> None:
    shutil.copytree(exported.root, tmp_path / "repository")
    repository = Repository(tmp_path / "repository")
    config = repository.root / "text_encoder" / "config.pbtxt"
    config.write_text(config.read_text() + "# changed\n")
    assert export_family(family, repository, processes=1) == 2
    linked = [
        model
        for model in BUILDERS
        if (repository.model_dir(model, 1) / "model.onnx").samefile(repository.model_dir(model, 2) / "model.onnx")
    ]
    assert set(BUILDERS) - set(linked) == {"text_encoder"}
