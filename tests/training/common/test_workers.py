"""Several processes on one batch: their shares are the whole; without torchrun there is one worker."""

import numpy as np
import pytest
import torch
from torch import nn

from training.common.workers import Workers


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_shares_of_all_workers_are_the_whole(count: int) -> None:
    whole = np.arange(10)
    shares = [Workers(rank, count).share(whole) for rank in range(count)]
    assert sorted(np.concatenate(shares)) == whole.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert torch.equal(Workers(1, 4).share(torch.arange(6)), torch.tensor([1, 5]))


def test_without_torchrun_there_is_one_worker_that_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    alone = Workers.from_environment()
    assert alone == Workers() and alone.is_first
    layer, tensor = nn.Linear(2, 1), torch.ones(2)
    alone.add_up([tensor])
    alone.add_up_gradients(layer.parameters())
    alone.wait()
    assert alone.agreed("groups@3") == "groups@3"
    assert torch.equal(tensor, torch.ones(2)) and layer.weight.grad is None


def test_only_the_first_writes() -> None:
    assert [Workers(rank, 3).is_first for rank in range(3)] == [True, False, False]
