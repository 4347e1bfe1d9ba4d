"""The ways that a teacher takes from noise to clean latents, drawn once and kept on disk, part by part.

    FOLDER/made_with.json        what they were drawn with
           part-00000.npz …      text (B, 77, D) as a student reads it, features (B, F), adapter_scale (B,),
                                 latents (B, T + 1, C, S, S): before each of the T steps, and after the last

A student of fewer steps has its levels among the teacher's. Knows a teacher and what it is asked; not who learns.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.common.errors import reading
from training.common.loop import ResumeError
from training.common.reports import write_report
from training.generator.asking import Asked, Asking
from training.generator.distil_recipes import DistilRecipe
from training.generator.drawing import sampler_of
from training.generator.sampling import Scheduler
from training.models.denoiser import PersonalisedDenoiser
from training.models.distilled import Distilled
from training.models.family import FamilyPaths

PART = 64  # trajectories in a file, and at once
SAMPLER = "dpmsolver++2m"  # of the teacher


@dataclass(frozen=True)
class Trajectories:
    """N of them, in memory."""

    text: Tensor  # float16 (N, 77, D), guidance and negative prompt included
    features: Tensor  # int64 (N, F)
    adapter_scale: Tensor  # (N,)
    latents: Tensor  # float16 (N, T + 1, C, S, S)

    def __len__(self) -> int:
        return len(self.text)

    def rows(self, rows: slice) -> "Trajectories":
        """These only."""
        return Trajectories(self.text[rows], self.features[rows], self.adapter_scale[rows], self.latents[rows])


@dataclass(frozen=True)
class Levels:
    """The noise levels of the teacher's steps."""

    timesteps: Tensor  # int64 (T,)
    alphas_bar: Tensor  # (T + 1,), the last of clean latents, 1

    @classmethod
    def of(cls, family: FamilyPaths, steps: int) -> "Levels":
        """Of a family's teacher in so many steps."""
        scheduler = teacher_sampler(family, steps)
        timesteps = torch.as_tensor(scheduler.timesteps).long()
        alphas_bar = family.noise_scheduler().alphas_cumprod[timesteps]
        return cls(timesteps, torch.cat([alphas_bar, torch.ones(1)]).float())


def teacher_sampler(family: FamilyPaths, steps: int) -> Scheduler:
    """The teacher's, for one batch."""
    scheduler = sampler_of(family, SAMPLER)
    scheduler.set_timesteps(steps)
    return scheduler


@torch.no_grad()
def way_of(teacher: PersonalisedDenoiser, asked: Asked, scheduler: Scheduler) -> Tensor:
    """The teacher's latents before each step and after the last, (B, T + 1, C, S, S); a scheduler serves one batch."""
    network = teacher.network
    user = asked.features if network is None else network.represent(asked.features)
    how = (asked.text, asked.negative_text, user, asked.guidance.unsqueeze(1), asked.adapter_scale.unsqueeze(1))
    way = [asked.noise]
    for t in scheduler.timesteps:
        at = t.repeat(len(asked.noise), 1).to(asked.noise.device)  # (B, 1)
        way.append(scheduler.step(teacher(way[-1], at, *how), t, way[-1]).prev_sample)
    return torch.stack(way, 1)


def trajectories(
    folder: Path,
    teacher: PersonalisedDenoiser,
    asking: Asking,
    distilled: Distilled,
    family: FamilyPaths,
    recipe: DistilRecipe,
    made_with: Mapping[str, Any],
) -> Trajectories:
    """All trajectories of a recipe, the held-out ones last; those that the folder has are not drawn again.

    Args:
        made_with: what decides them, as JSON values.

    Raises:
        ResumeError: the folder has others.
    """
    _claim(folder, made_with)
    wanted = recipe.trajectories + recipe.held_out
    paths = [folder / f"part-{number:05d}.npz" for number in range(-(-wanted // PART))]
    device, steps = next(teacher.parameters()).device, recipe.denoising_steps * recipe.between
    there = sum(path.is_file() for path in paths)
    shown = {"total": len(paths) * PART, "initial": there * PART, "unit": "way", "mininterval": 2}
    with tqdm(desc="the teacher draws", **shown) as bar:
        for number, path in enumerate(paths):
            if path.is_file():
                continue
            asked = asking.draw(number, PART)
            read = distilled.text(asked.text, asked.negative_text, asking.no_text, asked.guidance.view(-1, 1, 1))
            way = way_of(teacher, asked.to(device), teacher_sampler(family, steps))
            _save(path, text=read, features=asked.features, adapter_scale=asked.adapter_scale, latents=way)
            bar.update(PART)
    return _load(paths).rows(slice(wanted))


def _claim(folder: Path, made_with: Mapping[str, Any]) -> None:
    told, path = dict(made_with), folder / "made_with.json"
    if not path.is_file():
        write_report(path, told)
        return
    with reading(path, ResumeError):
        was = json.loads(path.read_text(encoding="utf-8"))
    if odd := [name for name in told if was.get(name) != told[name]]:
        changes = ", ".join(f"{name} was {was.get(name)!r} and is {told[name]!r}" for name in odd)
        raise ResumeError(f"{folder} holds other trajectories: {changes}; choose another folder or remove this one")


def _save(path: Path, **arrays: Tensor) -> None:
    """Whole or not at all; floats in half precision but for scales."""
    kept = {n: x.half() if x.is_floating_point() and x.ndim > 1 else x for n, x in arrays.items()}
    unfinished = path.with_suffix(".new.npz")
    np.savez(unfinished, **{name: array.cpu().numpy() for name, array in kept.items()})
    unfinished.replace(path)


def _load(paths: Sequence[Path]) -> Trajectories:
    parts = []
    for path in paths:
        with reading(path, ResumeError), np.load(path) as part:
            parts.append({name: torch.from_numpy(part[name]) for name in part.files})
    return Trajectories(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
