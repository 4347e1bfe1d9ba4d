"""Several processes that train one model: each takes a share of every batch, gradients are added up.

`torchrun` starts them; without it there is one worker. Every process draws the whole batch and its random numbers and
then takes its share, so any number of workers takes the same steps (except for dropout inside a model, which
aesthetics and imagereward have).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

Rows = TypeVar("Rows", np.ndarray, Tensor)
T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process among `count`."""

    rank: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> "Workers":
        """The worker that torchrun's environment describes; joins the others (NCCL on GPUs, Gloo otherwise)."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count > 1 and not distributed.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, timeout=timedelta(hours=6))  # one decodes a table, the others wait
        return cls(int(os.environ.get("RANK", "0")), count)

    @property
    def is_first(self) -> bool:
        """Whether this one writes logs, checkpoints and results."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """This process's GPU, or the CPU."""
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")

    @property
    def computes_bfloat16(self) -> bool:
        """Whether the device has instructions for bfloat16, rather than emulate it."""
        if self.device.type != "cpu":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is Arm's name

    def share(self, whole: Rows) -> Rows:
        """Every `count`-th entry, from this rank on."""
        return whole[self.rank :: self.count]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all workers."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its sum over all workers; a worker without the gradient contributes 0."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def agreed(self, value: T) -> T:
        """The first worker's value, in every worker: what each found for itself may differ."""
        told = [value]
        if self.count > 1:
            distributed.broadcast_object_list(told)
        return told[0]

    def wait(self) -> None:
        """Waits until every worker arrives."""
        if self.count > 1:
            distributed.barrier()
