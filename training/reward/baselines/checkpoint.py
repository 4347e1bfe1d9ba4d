"""Reading published checkpoints: PyTorch or safetensors files of a state dict, possibly wrapped.

Knows files and names of tensors; nothing about models. Files are read as data (`weights_only`), never executed.
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.common.errors import WeightsError


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a file: `state_dict` unwrapped, the prefix of parallel training dropped.

    Raises:
        WeightsError: no such file, or not a state dict.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise WeightsError(f"{path} is not a checkpoint: {why}") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold a state dict")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def renamed(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    """A tensor's name after every (pattern, replacement), in order."""
    for pattern, new in patterns:
        name = re.sub(pattern, new, name)
    return name


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, ignore: tuple[str, ...] = ()) -> None:
    """Loads every tensor of the module from `state`.

    Args:
        path: the file of `state`, for the error.
        ignore: prefixes of names that the file may hold without use here, such as position indices.

    Raises:
        WeightsError: a tensor is missing, superfluous or has another shape; names it.
    """
    wanted = module.state_dict()
    found = {name: value for name, value in state.items() if not name.startswith(ignore) or name in wanted}
    if found.keys() != wanted.keys():
        missing, odd = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        raise WeightsError(f"{path} is for another model; missing {missing[:3]}, superfluous {odd[:3]}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise WeightsError(f"{path}: {name} is {tuple(value.shape)}, expected {tuple(wanted[name].shape)}")
    module.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
    )
