"""A family's parts on disk: what is damaged, missing or of another kind is refused by one line that names it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.errors import FeatureError
from training.common.errors import ModelError, WeightsError
from training.models.family import FamilyPaths

UNET, TEXT, VAE = ("pipeline/unet", "pipeline/text_encoder", "pipeline/vae")
Damage = Callable[[Path], None]
Load = Callable[[FamilyPaths], Any]


@pytest.fixture
def copied(family: FamilyPaths, tmp_path: Path) -> FamilyPaths:
    """A family that a test may damage."""
    shutil.copytree(family.pipeline.parent, tmp_path / "family")
    return FamilyPaths.under(tmp_path / "family")


def weights_of(directory: Path) -> Path:
    [path] = directory.glob("*.safetensors")
    return path


def cut(path: Path) -> None:
    """In half, as a full disk leaves it."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors[max(tensors)]
    save_file(tensors, path, metadata={"format": "pt"})


def with_nan(path: Path) -> None:
    tensors = load_file(path)
    tensors[max(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})


def unet(family: FamilyPaths) -> object:
    return family.unet()


def adapter(family: FamilyPaths) -> object:
    return family.perfusion(family.unet())


@pytest.mark.parametrize(
    ("load", "damage", "path", "told"),
    [
        (unet, lambda root: cut(weights_of(root / UNET)), UNET, "cannot be read"),
        (unet, lambda root: (root / UNET / "config.json").write_text("{"), UNET, "cannot be read"),
        (unet, lambda root: changed(root / UNET / "config.json", cross_attention_dim=20), UNET, ""),
        (unet, lambda root: without_a_tensor(weights_of(root / UNET)), UNET, "missing: "),
        (unet, lambda root: with_nan(weights_of(root / UNET)), UNET, "is not finite"),
        (FamilyPaths.text_encoder, lambda root: cut(weights_of(root / TEXT)), TEXT, "cannot be read"),
        (FamilyPaths.text_encoder, lambda root: without_a_tensor(weights_of(root / TEXT)), TEXT, "missing: "),
        (FamilyPaths.vae, lambda root: without_a_tensor(weights_of(root / VAE)), VAE, "missing: "),
        (FamilyPaths.clip, lambda root: cut(weights_of(root / "reward")), "reward", "cannot be read"),
        (FamilyPaths.clip, lambda root: with_nan(weights_of(root / "reward")), "reward", "is not finite"),
        (adapter, lambda root: cut(weights_of(root / "adapter")), "adapter.safetensors", "cannot be read"),
        (adapter, lambda root: with_nan(weights_of(root / "adapter")), "adapter.safetensors", "is not finite"),
        (
            adapter,
            lambda root: (root / "adapter/config.json").write_text("no"),
            "adapter/config.json",
            "cannot be read",
        ),
        (
            FamilyPaths.reward_model,
            lambda root: cut(weights_of(root / "perfusion_rm")),
            "perfusion_rm",
            "cannot be read",
        ),
        (
            FamilyPaths.noise_scheduler,
            lambda root: (root / "pipeline/scheduler/scheduler_config.json").write_text("{"),
            "pipeline/scheduler",
            "cannot be read",
        ),
        (
            FamilyPaths.noise_scheduler,
            lambda root: changed(root / "pipeline/scheduler/scheduler_config.json", prediction_type="v_prediction"),
            "pipeline/scheduler",
            "prediction_type is 'v_prediction'; only 'epsilon'",
        ),
        (
            FamilyPaths.noise_scheduler,
            lambda root: changed(root / "pipeline/scheduler/scheduler_config.json", num_train_timesteps=500),
            "pipeline/scheduler",
            "num_train_timesteps is 500; only 1000",
        ),
        (FamilyPaths.check_pipeline, lambda root: shutil.rmtree(root / VAE), "pipeline", "lacks vae"),
    ],
)
def test_what_is_damaged_is_refused_by_name(
    copied: FamilyPaths, load: Load, damage: Damage, path: str, told: str
) -> None:
    root = copied.pipeline.parent
    load(copied)
    damage(root)
    with pytest.raises(ModelError) as caught:
        load(copied)
    assert isinstance(caught.value, WeightsError)
    message = str(caught.value)
    assert path in message and told in message and "\n" not in message


def test_a_damaged_schema_is_refused_by_name(copied: FamilyPaths) -> None:
    copied.feature_schema.write_text("{")
    with pytest.raises(FeatureError, match=r"feature_schema\.json cannot be read"):
        copied.schema()


def test_a_family_may_lack_the_adapter_and_the_aligned_unet(copied: FamilyPaths) -> None:
    assert copied.backbone_files == copied.pipeline / "unet"  # no backbone/ in this family
    assert copied.perfusion(copied.backbone_unet()) is not None
    shutil.rmtree(copied.adapter)
    assert copied.perfusion(copied.backbone_unet()) is None
    shutil.copytree(copied.pipeline / "unet", copied.backbone)
    assert copied.backbone_files == copied.backbone


def test_what_must_be_there_is_named_where_it_is_missing(copied: FamilyPaths) -> None:
    for part, load in (("feature_schema", copied.schema), ("phrases", copied.vocabulary), ("reward", copied.clip)):
        path = getattr(copied, part)
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(WeightsError, match=f"{path.name} is missing"):
            load()
        path.with_name("elsewhere").rename(path)
