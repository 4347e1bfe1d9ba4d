"""Groups whose picks follow from the merchant's style, one small batch, and a table of groups."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.feature_schema import FeatureSchema
from tests.training.generator.shops import group
from training.data.groups import GroupTensors
from training.data.table import write_table
from training.generator.step import Batch
from training.models.family import FamilyPaths


@pytest.fixture
def groups(schema) -> GroupTensors:
    """Style decides: minimalists pick dark latents, luxury picks bright ones."""
    rng = np.random.default_rng(0)
    n, k = 24, 3
    features = np.stack([rng.integers(1, 3, n), rng.integers(0, 4, n), rng.integers(0, 4, n), rng.integers(0, 5, n)])
    latents = rng.normal(size=(n, k, 4, 8, 8)) * 0.1
    brightness = np.linspace(-1, 1, k)[None, :, None, None, None]
    selected = np.zeros((n, k), bool)
    selected[np.arange(n), np.where(features[0] == 1, 0, k - 1)] = True
    ids = rng.integers(0, 250, (n, 2, 77))
    return GroupTensors(schema, features.T.copy(), selected, ids, latents=(latents + brightness).astype(np.float16))


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(3)
    selected = torch.tensor([[True, False, False], [False, True, True]])
    users = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])
    z_0, text, eps = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 77, 12), torch.randn(2, 4, 8, 8)
    return Batch(z_0, text, users, selected, ~selected, torch.tensor([10, 700]), eps)


@pytest.fixture
def table(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    groups = [group(n, rng, picked=n % 3 if n % 4 else 9) for n in range(16)]  # every fourth without a pick
    write_table(tmp_path / "my table", groups, schema)
    return tmp_path / "my table"


@pytest.fixture
def quick(family: FamilyPaths, tmp_path: Path) -> FamilyPaths:
    """A copy of the family that draws in two steps."""
    own = tmp_path / "my family"
    shutil.copytree(family.reward.parent, own)
    (own / "defaults.json").write_text('{"num_steps": 2}')
    return FamilyPaths.under(own)
