"""Loads groups for a training or an evaluation, from a table or from prepared arrays.

Knows the two forms on disk and which of a family's parts they need; nothing about objectives.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from training.common.places import CACHE as CACHE
from training.common.runs import held
from training.common.workers import Workers
from training.data.groups import GroupError, GroupTensors, update_with
from training.data.prepare import prepare
from training.data.table import check_data, is_table
from training.models.family import FamilyPaths


class Load(Protocol):
    """Loads groups; `quiet` prints no report of a table's preparation."""

    def __call__(self, *, quiet: bool = False) -> GroupTensors: ...


def by_all(workers: Workers, load: Load) -> GroupTensors:
    """The groups in every worker: the first one prepares them and prints the report, the others find them."""
    first = load() if workers.is_first else None
    workers.wait()
    return first or load(quiet=True)


def reward_groups(data: Path, family: FamilyPaths, cache: Path = CACHE, *, quiet: bool = False) -> GroupTensors:
    """Groups with pictures of the reward model's size, prompts in its tokens."""
    data = check_data(data)
    if not is_table(data):
        return GroupTensors.load(data)
    size_px = family.clip().config.vision_config.image_size
    return prepare(data, cache, family.reward_tokenizer(), size_px, quiet=quiet)


def generator_groups(data: Path, family: FamilyPaths, cache: Path = CACHE, *, quiet: bool = False) -> GroupTensors:
    """Groups with latents of the family's VAE, prompts in its text encoder's tokens."""
    data = check_data(data)
    if not is_table(data):
        return GroupTensors.load(data)
    groups = prepare(data, cache, family.tokenizer(), family.vae().config.sample_size, quiet=quiet)
    return with_latents(groups, family.vae(), cache)


def with_latents(groups: GroupTensors, vae: AutoencoderKL, cache: Path) -> GroupTensors:
    """The groups with latents in the pictures' place: posterior means at the U-Net's scale, kept in `cache`."""
    if groups.images is None:
        raise GroupError("latents are made from images; these groups have none")
    flat = groups.images.reshape(-1, *groups.images.shape[2:])

    def latents() -> np.ndarray:
        return encode_latents(vae, flat).reshape(*groups.selected.shape, -1, *_latent_size(vae, flat))

    return replace(groups, images=None, latents=kept(cache / f"latents-{_fingerprint(groups, vae)}.npy", latents))


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in this file, memory-mapped; computed if the file is absent, and never written in part."""
    if not path.exists():
        with held(path.parent, f"{path.name}.lock", wait=True):
            if not path.exists():  # another process may have made it meanwhile
                unfinished = path.with_suffix(".new.npy")
                np.save(unfinished, make())
                unfinished.replace(path)
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


@torch.inference_mode()
def encode_latents(vae: AutoencoderKL, images: np.ndarray, batch_size: int = 100, *, quiet: bool = False) -> np.ndarray:
    """Posterior means of uint8 (N, H, W, 3), scaled, float16 (N, C, S, S)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = vae.to(device)
    parts = []
    for at in tqdm(range(0, len(images), batch_size), desc="encoding latents", disable=quiet):
        pixels = torch.tensor(images[at : at + batch_size], device=device).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts.append((vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor).half().cpu().numpy())
    return np.concatenate(parts)


def _fingerprint(groups: GroupTensors, vae: AutoencoderKL) -> str:
    """A hash of these pictures and these weights."""
    digest = hashlib.sha256(repr((groups.selected.shape, vae.config.scaling_factor)).encode())
    if groups.images is not None:
        update_with(digest, groups.images)
    for weight in vae.state_dict().values():
        digest.update(np.ascontiguousarray(weight.float().cpu().numpy()).data)
    return digest.hexdigest()[:16]


def _latent_size(vae: AutoencoderKL, images: np.ndarray) -> tuple[int, int]:
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return images.shape[1] // factor, images.shape[2] // factor
