"""Evaluating a reward model: the command's numbers, the shuffled-user control, and tables that do not fit."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BlipTextConfig, BlipVisionConfig

from contract.errors import FeatureError
from contract.feature_schema import Feature, FeatureSchema
from training.common.errors import ModelError
from training.common.metrics import rank_metrics
from training.data.load import reward_groups
from training.data.table import Candidate, Group, write_table
from training.models.family import FamilyPaths
from training.reward.baselines.image_reward import BlipShape, ImageReward
from training.reward.baselines.pickscore import PickScore
from training.reward.evaluate import main
from training.reward.evaluation import as_text, model_in, rankings, scores_of
from training.reward.models import save
from training.reward.recipes import MODELS, VARIANTS, Model
from training.reward.scores import RewardScorer
from training.reward.train import main as train_main

N, K = 40, 3


def png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def table(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Groups picked at random, of two styles."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    groups = []
    for n in range(N):
        picked = int(rng.integers(K))
        candidates = tuple(Candidate(f"{n}-{k}", k == picked, png(rng)) for k in range(K))
        style = str(rng.choice(["minimalist", "luxury"]))
        groups.append(Group(f"g{n}", f"u{n}", "dress,red", candidates, {"style": style}))
    write_table(tmp_path / "table", groups, schema)
    return tmp_path / "table"


def test_scores_are_of_own_users_and_of_each_others(table: Path, family: FamilyPaths) -> None:
    groups, scores = scores_of(table, family)
    expected = RewardScorer.of(family).all(reward_groups(table, family))
    np.testing.assert_array_equal(scores["own_users"], expected)
    order = np.random.default_rng(0).permutation(N)
    of_others = RewardScorer.of(family).all(groups, groups.features[order])
    np.testing.assert_array_equal(scores["shuffled_users"], of_others)
    assert not np.allclose(of_others, expected, rtol=1e-4)
    found = rankings(groups, scores)
    assert found["own_users"]["gauc"] == rank_metrics(expected, groups.selected).gauc
    assert found["shuffled_users"]["gauc"] == rank_metrics(of_others, groups.selected).gauc
    told = as_text(found).splitlines()
    assert [line.split()[0] for line in told] == ["MAP", "own_users", "shuffled_users"]
    assert told[1].split()[2] == f"{found['own_users']['gauc']:.3f}"


def test_another_schema_is_refused_at_once(
    tmp_path: Path, table: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FeatureSchema((Feature("user_id", "categorical", ("u0",)),))
    pictures = tuple(Candidate(str(k), k == 0, png(np.random.default_rng(k))) for k in range(2))
    write_table(tmp_path / "other", [Group("g", "u0", "dress", pictures, {"user_id": "u0"})], other)
    monkeypatch.setattr("training.reward.evaluation.reward_groups", None)  # not called: no picture is decoded
    with pytest.raises(FeatureError, match="differs from the schema of .*: the feature 'style' is missing"):
        scores_of(tmp_path / "other", family)


def test_a_folder_of_two_models_does_not_say_which_is_meant(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no reward model: none of the folders perfusion_rm"):
        model_in(tmp_path)
    (tmp_path / "hpsv2").mkdir()
    assert model_in(tmp_path) == "hpsv2"
    (tmp_path / "pickscore").mkdir()
    with pytest.raises(ModelError, match="holds hpsv2, pickscore"):
        model_in(tmp_path)


def test_the_command_writes_what_it_prints(
    table: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "numbers" / "reward.json"
    command = ["evaluate", "--model", str(family.reward.parent)]
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(table), "--out", str(out)])
    assert main() == 0
    found = json.loads(out.read_text())
    assert set(found) == {"own_users", "shuffled_users"} and found["own_users"]["groups"] == N
    assert as_text(found) in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(table.parent)])
    assert main() == 1
    assert f"did you mean {table}?" in capsys.readouterr().err


def test_a_training_is_evaluated_on_the_backbone_of_a_family(
    table: Path,
    family: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(family.perfusion_rm, tmp_path / "run" / "perfusion_rm")
    command = ["evaluate", "--data", str(table), "--model", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [*command, "--weights", str(family.reward.parent)])
    assert main() == 0
    assert "own_users" in capsys.readouterr().out
    (tmp_path / "run" / "perfusion_rm").rename(tmp_path / "elsewhere")
    clip = family.clip()
    save(PickScore(clip), tmp_path / "run" / "pickscore")
    assert main() == 0
    told = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if "_users" in line}
    assert told["own_users"] == told["shuffled_users"]  # a baseline knows no users
    monkeypatch.setattr(sys, "argv", [*command[:-1], str(tmp_path / "nothing"), "--weights", str(family.reward.parent)])
    assert main() == 1
    assert "nothing holds no reward model" in capsys.readouterr().err


def small_blip(family: FamilyPaths) -> ImageReward:
    """For the family's tokens and pictures."""
    tokens = family.reward_tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"sep_token_id": tokens.eos_token_id, "pad_token_id": tokens.pad_token_id}
    text = BlipTextConfig(vocab_size=len(tokens), encoder_hidden_size=16, max_position_embeddings=77, **tower, **marks)
    shape = BlipShape(BlipVisionConfig(image_size=32, patch_size=16, **tower), text)
    return ImageReward(shape, tokens.eos_token_id)


@pytest.mark.parametrize("model", [model for model in MODELS if model not in VARIANTS or model == "perfusion_rm"])
def test_every_model_that_was_trained_is_evaluated_and_on_its_own_backbone_only(
    table: Path,
    family: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Model,
) -> None:
    weights, out = family.reward.parent, tmp_path / "my run"
    options = ["--data", str(table), "--weights", str(weights)]
    training = [*options, "--out", str(out), "--model", model, "--recipe", "tiny", "--steps", "2"]
    if model == "imagereward":
        save(small_blip(family), tmp_path / "blip")
        training += ["--blip", str(tmp_path / "blip")]
    monkeypatch.setattr(sys, "argv", ["train", *training, "--groups-per-batch", "4"])
    assert train_main() == 0
    assert f"{model} written to {out / model}" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["evaluate", *options, "--model", str(out)])
    assert main() == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if "_users" in line}
    assert lines["own_users"][3] == str(N)

    other = tmp_path / "other family"
    shutil.copytree(weights, other)
    clip = family.clip()
    with torch.no_grad():
        clip.logit_scale.add_(1.0)
    clip.save_pretrained(other / "reward")
    monkeypatch.setattr(sys, "argv", ["evaluate", *options[:2], "--weights", str(other), "--model", str(out)])
    assert main() == 1
    told = capsys.readouterr().err
    assert f"{out / model} was trained on the backbone " in told and str(other / "reward") in told
    assert str(family.reward) in told
