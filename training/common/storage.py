"""Saving a module's own weights beside its configuration: config.json + one fp16 safetensors file, and origin.json,
which says on which backbone they were trained, and with what beside it.

The caller decides which tensors belong to the module. Loading is strict, for our own files and for diffusers' and
transformers' directories: a missing tensor, one of another shape, or one that is not finite is an error that names it,
never a silent default.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.common.errors import WeightsError, reading
from training.common.reports import write_report

CONFIG_FILE, ORIGIN_FILE = "config.json", "origin.json"
M = TypeVar("M", bound=nn.Module)


def save_weights(directory: Path, filename: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files; half precision on disk, so that the tiny family fits in the repository."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"refusing to save {directory}: {name} is not finite")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n")
    half = {name: t.detach().to("cpu", torch.float16).contiguous() for name, t in tensors.items()}
    save_file(half, directory / filename)


def fingerprint(module: nn.Module) -> str:
    """A hash of all weights in half precision, as on disk."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()[:16]


def origin_of(backbone: nn.Module) -> dict[str, str]:
    """Which backbone this is: the fingerprint of its weights, and the directory that they are from."""
    config = getattr(backbone, "config", None)
    told = config.get("_name_or_path") if isinstance(config, Mapping) else getattr(config, "_name_or_path", "")
    return {"backbone": fingerprint(backbone), "path": str(told or "")}


def write_origin(directory: Path, origin: Mapping[str, str]) -> None:
    """Says beside saved weights what they were trained with: fingerprints by name, and the backbone's path."""
    write_report(directory / ORIGIN_FILE, dict(origin))


def check_origin(directory: Path, given: Mapping[str, str]) -> None:
    """Refuses weights that were trained with another of these; what origin.json does not say is accepted.

    Raises:
        WeightsError: names what differs, with both fingerprints.
    """
    path = directory / ORIGIN_FILE
    if not path.is_file():
        return
    with reading(path):
        trained = dict(**json.loads(path.read_text(encoding="utf-8")))
    for name in given.keys() & trained.keys() - {"path"}:
        if trained[name] != given[name]:
            was, now = (_told(name, origin) for origin in (trained, given))
            raise WeightsError(f"{directory} was trained on the {name.replace('_', ' ')} {was}, and {now} is given")


def _told(name: str, origin: Mapping[str, str]) -> str:
    return f"{origin[name]} ({origin.get('path') or 'of no directory'})" if name == "backbone" else origin[name]


def read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    with reading(path):
        config: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise WeightsError(f"{path} holds a {type(config).__name__}, not settings by name")
    return config


def load_weights(module: nn.Module, names: set[str], path: Path) -> None:
    """Fill the parameters `names` of the module from a file that holds exactly those."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    with reading(path):
        tensors = load_file(path)
    if tensors.keys() != names:
        odd = sorted(tensors.keys() ^ names)
        raise WeightsError(f"{path} does not hold this model's parameters; differing: {odd[:3]}")
    target = module.state_dict()
    for name, tensor in tensors.items():
        if tensor.shape != target[name].shape:
            wanted = tuple(target[name].shape)
            raise WeightsError(f"{path}: {name} is {tuple(tensor.shape)}, expected {wanted}")
        target[name].copy_(tensor)
    _check_finite(path, target)


def load_pretrained(kind: type[M], directory: Path, **options: Any) -> M:
    """A frozen model from a diffusers or transformers directory; `options` are its from_pretrained's.

    The libraries fill what a file lacks with random numbers and warn.

    Raises:
        WeightsError: a file is damaged, or lacks a tensor, or holds one of another shape or one that is not finite.
    """
    with reading(directory):
        model, found = kind.from_pretrained(directory, output_loading_info=True, **options)  # type: ignore[attr-defined]
    if odd := [*found["missing_keys"], *found["mismatched_keys"]]:
        raise WeightsError(f"{directory} does not hold its model's parameters; missing: {sorted(map(str, odd))[:3]}")
    _check_finite(directory, model.state_dict())
    frozen: M = model.eval().requires_grad_(False)
    return frozen


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise WeightsError(f"{path}: {bad[0]} is not finite")
