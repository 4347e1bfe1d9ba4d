"""Reading published checkpoints: as data, unwrapped, with errors that name what differs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.common.errors import WeightsError
from training.reward.baselines.checkpoint import fill, read_checkpoint


class Code:
    """Something that is not a tensor."""


def test_wrapping_and_prefixes_fall_away(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    named = {f"module.{name}": value for name, value in layer.state_dict().items()}
    torch.save({"state_dict": named, "epoch": 3}, tmp_path / "a.pt")
    save_file(layer.state_dict(), tmp_path / "a.safetensors")
    for path in (tmp_path / "a.pt", tmp_path / "a.safetensors"):
        found = read_checkpoint(path)
        assert found.keys() == {"weight", "bias"}
        other = nn.Linear(2, 2)
        fill(other, found, path)
        assert torch.equal(other.weight, layer.weight)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not one")
    torch.save({"model": 3}, tmp_path / "number.pt")
    torch.save(Code(), tmp_path / "code.pt")
    for name, message in (
        ("text.pt", "not a checkpoint"),
        ("number.pt", "state dict"),
        ("code.pt", "not a checkpoint"),
    ):
        with pytest.raises(WeightsError, match=f"{name}.*{message}"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(WeightsError, match="missing"):
        read_checkpoint(tmp_path / "nowhere.pt")


def test_tensors_that_differ_are_named(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    state = layer.state_dict() | {"extra.x": torch.zeros(1), "ignored.y": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"superfluous \['extra.x'\]"):
        fill(layer, state, tmp_path, ignore=("ignored.",))
    with pytest.raises(WeightsError, match=r"missing \['bias'\]"):
        fill(layer, {"weight": layer.weight}, tmp_path)
