"""Running a module in float64: weights, constants and what names float32, with nothing changed in the module."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.exporting.family_contracts import write_contracts
from training.exporting.float64 import InFloat64
from training.exporting.graphs import BUILDERS
from training.exporting.onnx_file import run
from training.exporting.samples import Samples
from training.exporting.tensor_contract import read_contract
from training.models.family import FamilyPaths

THIRD = 1 / 3


class Narrowing(nn.Module):
    """Whatever could bring float32 back: a cast of each kind, a new tensor, a constant, a weight's own type."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), THIRD))

    def forward(self, x: Tensor) -> Tensor:
        x = (x.long().float() + x).to(torch.float32).type(torch.float32).type_as(self.weight).to(self.weight.dtype)
        x = x / 3 @ self.weight.T + torch.full((2,), 0.5) + torch.zeros(2, dtype=torch.float32)
        return nn.functional.linear(x, self.weight, torch.arange(2, dtype=torch.float32) / 3)


def test_nothing_is_rounded_to_float32_on_the_way() -> None:
    module, x = Narrowing(), torch.tensor([[1.0, 2.0]])
    with InFloat64():
        found = module(x)
    weight = module.weight.double()
    exact = ((2 * x.double()) / 3 @ weight.T + 0.5) @ weight.T + torch.arange(2).double() / 3
    torch.testing.assert_close(found, exact, rtol=1e-14, atol=0)
    assert module.weight.dtype == torch.float32 and module(x).dtype == torch.float32


@torch.inference_mode()
@pytest.mark.parametrize("model", BUILDERS)
def test_every_model_runs_in_it_unchanged(family: FamilyPaths, model: str, tmp_path: Path) -> None:
    write_contracts(family, Path("model_repository"), tmp_path)
    contract = read_contract(tmp_path, model)
    module, inputs = BUILDERS[model](family, contract).eval(), Samples(family, model).draw(contract, 3)
    before = run(module, inputs)
    with InFloat64():
        exact = run(module, inputs)
    for spec, narrow, wide, after in zip(contract.outputs, before, exact, run(module, inputs), strict=True):
        pixels = spec.dtype == "UINT8"
        assert wide.dtype == (np.uint8 if pixels else np.float64) and np.array_equal(narrow, after)
        np.testing.assert_allclose(narrow.astype(float), wide, rtol=0, atol=1 if pixels else 1e-3 * np.abs(wide).max())
