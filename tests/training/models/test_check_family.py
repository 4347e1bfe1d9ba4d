"""check_family: everything that is missing or does not fit is listed at once, with a remedy, without a traceback."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from contract.feature_schema import Feature, FeatureSchema
from training.models.check_family import main
from training.models.family import TINY, FamilyPaths

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def root(family: FamilyPaths, tmp_path: Path) -> Path:
    """A copy of the family in a folder with a space and an umlaut."""
    own = tmp_path / "my fämily"
    shutil.copytree(family.reward.parent, own)
    return own


@pytest.fixture
def check(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    def run(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["check_family", str(root), *options])
        return main(), capsys.readouterr().out

    return run


def setting(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_family_has_nothing_and_its_parts_are_loaded(check: Check, root: Path) -> None:
    code, told = check()
    assert (code, told) == (0, f"{root}: 0 to be mended, 0 left out, 0 to know\n")
    with (root / "pipeline/vae/diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.truncate(500)
    code, told = check()
    assert code == 1 and "pipeline/vae: " in told and "cannot be read" in told


def test_what_is_missing_is_listed_at_once_with_what_may_be_meant(check: Check, root: Path) -> None:
    (root / "pipeline/text_encoder").rename(root / "pipeline/text-encoder")
    (root / "phrases.json").rename(root / "phrase.json")
    shutil.rmtree(root / "reward/tokenizer")
    (root / "reward/model.safetensors").unlink()
    (root / "perfusion_rm").rename(root.parent / "elsewhere")
    (root / "feature_schema.json").write_text("{")
    code, told = check()
    assert code == 1
    assert "did you mean 'text-encoder'?" in told and "did you mean 'phrase.json'?" in told
    assert "reward/tokenizer: neither tokenizer.json nor vocab.json" in told
    assert "reward: no *.safetensors or *.bin" in told
    assert "the feature schema cannot be used" in told
    assert "a part is missing that an export needs, 1 time" in told


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("pipeline/unet", {"cross_attention_dim": 99}, "cross_attention_dim: is 99, and pipeline/text_encoder"),
        ("pipeline/vae", {"latent_channels": 16}, "in_channels: is 4, and pipeline/vae latent_channels is 16"),
        ("pipeline/vae", {"sample_size": 512}, "sample_size · 2: is 16, and pipeline/vae sample_size is 512"),
        ("pipeline/text_encoder", {"max_position_embeddings": 20}, "reads 20 tokens, prompts have 77"),
        ("reward", {"text_config": {"vocab_size": 49408, "eos_token_id": 49407}}, "reward knows 49408"),
    ],
)
def test_sizes_that_do_not_agree_are_named(
    check: Check, root: Path, file: str, changes: dict[str, object], told: str
) -> None:
    setting(root / file / "config.json", **changes)
    code, output = check("--no-weights")
    assert code == 1 and told in output


def test_a_tokenizer_of_another_family_is_noticed(check: Check, root: Path) -> None:
    other = CLIPTokenizer(model_max_length=77).train_new_from_iterator(["a cat sat on the mat"], 600)
    for part in ("pipeline", "reward"):
        other.save_pretrained(root / part / "tokenizer")
    code, told = check("--no-weights")
    assert code == 1 and "a tokenizer of another family, 2 times" in told  # of both models
    assert "copy the tokenizer that pipeline/text_encoder was trained with" in told


def swapped(folder: Path) -> None:
    """The same tokens, end and size, but two ids have changed places."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    one, other = [token for token, number in vocabulary.items() if number in (300, 301)]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("tokenizer", "trained"), [("pipeline/tokenizer", "text_encoder"), ("reward/tokenizer", "reward")]
)
def test_a_tokenizer_of_the_same_sizes_is_noticed_by_what_the_text_model_was_trained_with(
    check: Check, root: Path, tokenizer: str, trained: str
) -> None:
    swapped(root / tokenizer)
    code, told = check("--no-weights")
    assert code == 0 and "two tokenizers of one size that differ, 1 time" in told
    code, told = check()
    assert code == 1 and f"{trained} was trained on the tokenizer " in told
    for origin in root.rglob("origin.json"):  # a published family, which does not say
        origin.unlink()
    assert check()[0] == 0


def test_a_part_says_what_it_was_trained_with_beside_its_backbone(check: Check, root: Path) -> None:
    unet = root / "pipeline/unet/origin.json"
    setting(unet, vae="another")
    code, told = check()
    assert code == 1 and "pipeline/unet was trained on the vae another, and " in told


def test_the_published_family_says_what_each_part_was_trained_with() -> None:
    family = FamilyPaths.under(TINY)
    family.check_origins()
    said = {part.parent.relative_to(TINY).as_posix() for part in TINY.rglob("origin.json")}
    assert said == {"pipeline/text_encoder", "pipeline/unet", "backbone", "reward", "perfusion_rm", "preferences"}


def test_a_schedule_and_defaults_that_are_not_supported_are_named(check: Check, root: Path) -> None:
    setting(root / "pipeline/scheduler/scheduler_config.json", prediction_type="v_prediction")
    (root / "defaults.json").write_text('{"steps": 5}')
    code, told = check("--no-weights")
    assert code == 1 and "prediction_type is 'v_prediction'" in told and "defaults.json: steps" in told


def test_a_part_of_another_schema_or_backbone_is_named(check: Check, root: Path, family: FamilyPaths) -> None:
    clip = family.clip()
    with torch.no_grad():
        clip.logit_scale.add_(1.0)
    clip.save_pretrained(root / "reward")
    code, told = check()
    assert code == 1 and "perfusion_rm was trained on the backbone " in told
    FeatureSchema((Feature("style", "categorical", ("minimalist", "luxury")),)).write(root / "feature_schema.json")
    code, told = check()
    assert code == 1 and "a part was trained with another feature schema, 3 times" in told
    assert "perfusion_rm: the feature 'audience' is missing" in told


def test_no_folder_is_no_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check_family", str(tmp_path / "nowhere")])
    assert main() == 1
    assert "does not exist" in capsys.readouterr().out
