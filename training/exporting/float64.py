"""Runs a torch module in float64 without changing it: what its float32 numbers, and those of its graph, are judged by.

Knows tensors and operators, nothing of the modules.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

GETTER = "__get__"  # of an attribute such as `shape`: its tensor need not be widened


class InFloat64(TorchFunctionMode):
    """Inside it every operator reads float32 tensors, weights too, as float64, and what names float32 means float64.

    A weight is widened while an operator reads it, so that a large module needs no second copy in memory.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") != GETTER:
            args, kwargs = tree_map(_widened, (args, kwargs))
        return tree_map(_widened, (Tensor.double if func is Tensor.float else func)(*args, **kwargs))


def _widened(value: Any) -> Any:
    """Called inside __torch_function__, where the mode is off."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype is torch.float32 else value
    return torch.float64 if value is torch.float32 else value
