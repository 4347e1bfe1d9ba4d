"""Distils a family's generator into a student: one pass a step in place of guidance's two, and few steps.

The student is the teacher's U-Net, and its adapter if it has one, trained further on trajectories that the teacher drew
(training.generator.trajectories), in two stages.

    jumps   from each of the teacher's latents on, one step of DDIM lands where the teacher is so much later: steps of
            progressive distillation (Salimans and Ho, 2022), all of them at once, with guidance inside (Meng et al.,
            2023)
    ways    all steps one after the other, from noise, end where the teacher's way ends, with the gradient through all
            of them: errors of one step are mended by the next

What the student reads in the place of guidance and negative prompt is training.models.distilled's. `python -m
training.generator.distil` is the command. Knows a family and what it is asked; no command line.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from contract import limits
from training.common.loop import Stateful, fit, warmup_cosine
from training.common.noise import ddim_step
from training.common.reports import write_report
from training.common.storage import fingerprint, origin_of, write_origin
from training.common.workers import Workers
from training.generator.asking import Asker, Asking
from training.generator.distil_recipes import DISTIL_STAGES, DistilRecipe, DistilStage
from training.generator.trajectories import Levels, Trajectories, trajectories
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.denoiser import PersonalisedDenoiser
from training.models.distilled import Distilled, check_undistilled
from training.models.family import FamilyPaths
from training.models.frozen_unet import decode, encode

SAMPLER = "ddim"  # of the student: each step goes as far as the student says, whatever the step before
MEASURE_EVERY = 100  # optimizer steps


class Student(nn.Module):
    """Noise in one pass, for the text that a distilled U-Net reads."""

    def __init__(self, unet: UNet2DConditionModel, network: PersonalisedAdaptiveNetwork | None) -> None:
        super().__init__()
        self.unet, self.network = unet, network

    def forward(self, latents: Tensor, t: Tensor, text: Tensor, features: Tensor, adapter_scale: Tensor) -> Tensor:
        """(B, C, S, S) at levels (B,), for text (B, 77, D), merchants (B, F) and scales (B,)."""
        added = self.network and self.network(latents, t, text, features, adapter_scale)
        return decode(self.unet, encode(self.unet, latents, t, text), added)

    def checkpoint_gradients(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.unet.enable_gradient_checkpointing()
        if self.network is not None:
            self.network.copy.enable_gradient_checkpointing()


class Distillation:
    """One stage: steps on the training trajectories, and the error on those held out."""

    def __init__(
        self, stage: DistilStage, recipe: DistilRecipe, drawn: Trajectories, levels: Levels, student: Student
    ) -> None:
        """`drawn` has the held-out ones last; `student` is trained on the device where it is."""
        self.stage, self.recipe, self.student = stage, recipe, student.requires_grad_(True)
        self.drawn, self.levels = drawn, levels
        self.device = next(student.parameters()).device
        self.training = drawn.rows(slice(0, len(drawn) - recipe.held_out))
        self.held_out = drawn.rows(slice(len(drawn) - recipe.held_out, None))
        ema = get_ema_multi_avg_fn(recipe.ema)
        self.average = AveragedModel(student, multi_avg_fn=ema) if recipe.ema else None
        if recipe.checkpoint_gradients:
            student.checkpoint_gradients()
        self.optimizer = torch.optim.AdamW(student.parameters(), recipe.lr_of(stage), weight_decay=recipe.weight_decay)
        self.schedule = warmup_cosine(self.optimizer, max(1, recipe.warmup_steps), recipe.steps_of(stage))

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step; its random numbers follow from (seed, stage, n)."""
        size, seed = self.recipe.batch_of(self.stage), (self.recipe.seed * 1_000_003 + n) * 2
        generator = torch.Generator().manual_seed(seed + DISTIL_STAGES.index(self.stage))
        rows = torch.randint(len(self.training), (size,), generator=generator)
        starts = self._starts(size, generator)
        self.optimizer.zero_grad()
        total = 0.0
        for part in torch.arange(size).tensor_split(self.recipe.accumulate):
            if len(part):
                loss = self._loss(rows[part], starts[part]) * (len(part) / size)
                loss.backward()
                total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.student)
        return {"loss": total, "grad_norm": norm.item()}

    def _starts(self, size: int, generator: torch.Generator) -> Tensor:
        """The teacher's steps from which jumps begin, (B,): mostly the student's own."""
        own = torch.randint(self.recipe.denoising_steps, (size,), generator=generator) * self.recipe.between
        every = torch.randint(len(self.levels.timesteps), (size,), generator=generator)
        return every.where(torch.rand(size, generator=generator) < self.recipe.astray, own)

    def _loss(self, rows: Tensor, starts: Tensor) -> Tensor:
        if self.stage == "jumps":
            ends = (starts + self.recipe.between).clamp(max=len(self.levels.timesteps))
            landed = self._jump(self.student, self.training, rows, self._latents(self.training, rows, starts), starts)
            return (landed - self._latents(self.training, rows, ends)).square().mean()
        errors = self._errors(self.student, self.training, rows)
        return torch.stack([*errors, errors[-1]]).sum()  # where it ends counts twice

    def _errors(self, student: nn.Module, drawn: Trajectories, rows: Tensor) -> list[Tensor]:
        """Mean squared distance of the student's latents from the teacher's after each of the student's steps."""
        latents, errors = self._latents(drawn, rows, torch.zeros_like(rows)), list[Tensor]()
        for start in range(0, len(self.levels.timesteps), self.recipe.between):
            starts = torch.full_like(rows, start)
            latents = self._jump(student, drawn, rows, latents, starts)
            errors.append((latents - self._latents(drawn, rows, starts + self.recipe.between)).square().mean())
        return errors

    def _jump(self, student: nn.Module, drawn: Trajectories, rows: Tensor, latents: Tensor, starts: Tensor) -> Tensor:
        """One step of DDIM, as far as `between` steps of the teacher."""
        ends = (starts + self.recipe.between).clamp(max=len(self.levels.timesteps))
        t, a, b = (x.to(self.device) for x in (
            self.levels.timesteps[starts], self.levels.alphas_bar[starts], self.levels.alphas_bar[ends]
        ))  # fmt: skip
        asked = (drawn.text[rows].float(), drawn.features[rows], drawn.adapter_scale[rows])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            eps = student(latents, t, *(x.to(self.device) for x in asked))
        return ddim_step(latents, eps.float(), a, b, eta=0.0)[0]

    def _latents(self, drawn: Trajectories, rows: Tensor, at: Tensor) -> Tensor:
        return drawn.latents[rows, at].float().to(self.device)

    @torch.no_grad()
    def measure(self, n: int) -> Mapping[str, float]:
        """On the held-out trajectories: the latents' error after the first step and after the last."""
        if not ((n + 1) % MEASURE_EVERY == 0 or n + 1 == self.recipe.steps_of(self.stage)):
            return {}
        errors = self._errors(self.kept, self.held_out, torch.arange(len(self.held_out)))
        return {"held_out_first": errors[0].item(), "held_out_last": errors[-1].item()}

    @property
    def kept(self) -> Student:
        """What is measured and handed on: the average, if there is one."""
        kept = self.student if self.average is None else self.average.module
        assert isinstance(kept, Student)
        return kept

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        average = {} if self.average is None else {"average": self.average}
        return {"student": self.student, **average, "optimizer": self.optimizer, "schedule": self.schedule}


def distil(
    recipe: DistilRecipe, asker: Asker, family: FamilyPaths, out: Path, work: Path | None = None
) -> dict[str, Path]:
    """Trains (or resumes); returns the parts of a family that draws with the student, by their names in FamilyPaths.

    Args:
        family: the teacher's.
        out: gets a folder for each stage, student/ and defaults.json.
        work: where the trajectories are kept, out/trajectories if nothing else is said.

    Raises:
        ResumeError: `out` holds a student that was made with another recipe, family or other prompts.
        WeightsError: the teacher is distilled itself, or the family lacks a part.
    """
    check_undistilled(family.backbone_files)
    device = Workers().device
    unet = family.backbone_unet()
    network, guidance = family.perfusion(unet), family.request_defaults().guidance_scale
    teacher = PersonalisedDenoiser(unet, network).to(device, memory_format=torch.channels_last).eval()  # a sixth faster
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    asking, levels = Asking(asker, family, recipe, shape), Levels.of(family, recipe.denoising_steps * recipe.between)
    told = Distilled(guidance, fingerprint(unet), "")
    made_with = made_of(recipe, asking, teacher, family)
    drawn = trajectories(work or out / "trajectories", teacher, asking, told, family, recipe, made_with)
    student = Student(copy.deepcopy(unet), copy.deepcopy(network)).train()
    for stage in DISTIL_STAGES:
        distillation = Distillation(stage, recipe, drawn, levels, student)
        start = {"start": fingerprint(student)}
        fit(
            out / stage, recipe.steps_of(stage), distillation.step, distillation.state(),
            on_log=distillation.measure, made_with=made_with | numbers_of(recipe, stage) | start,
        )  # fmt: skip
        student = distillation.kept
    return _write(student, told, family, out, recipe)


def held_out_errors(out: Path) -> dict[str, float]:
    """What the last log line of a finished distillation says of the held-out trajectories."""
    last = json.loads((out / DISTIL_STAGES[-1] / "log.jsonl").read_text().splitlines()[-1])
    return {name: value for name, value in last.items() if name.startswith("held_out")}


def made_of(recipe: DistilRecipe, asking: Asking, teacher: PersonalisedDenoiser, family: FamilyPaths) -> dict[str, Any]:
    """What decides the trajectories, as JSON values."""
    names = ("denoising_steps", "between", "unknown", "varied", "seed")  # of how many, each is the same
    parts = {"text_encoder": asking.text_encoder, "preferences": asking.preferences}
    weights = {name: fingerprint(part) for name, part in parts.items() if part is not None}
    asker = hashlib.sha256(json.dumps(list(asking.asker.prompts)).encode() + asking.asker.features.tobytes())
    return {
        **{name: getattr(recipe, name) for name in names}, **weights, "teacher": fingerprint(teacher),
        "defaults": asdict(family.request_defaults()), "asked": asker.hexdigest()[:16],
    }  # fmt: skip


def numbers_of(recipe: DistilRecipe, stage: DistilStage) -> dict[str, Any]:
    """The recipe's numbers that decide a stage, and no other."""
    of_jumps, of_ways = ("jump_steps", "lr", "jumps_per_batch", "astray"), ("way_steps", "way_lr", "ways_per_batch")
    others = ("served_guidance", *(of_ways if stage == "jumps" else of_jumps))
    return {name: value for name, value in recipe.made_with().items() if name not in others}


def _write(student: Student, told: Distilled, family: FamilyPaths, out: Path, recipe: DistilRecipe) -> dict[str, Path]:
    """The student's parts, each whole or not there: half precision, as published U-Nets."""
    parts, origin = {"backbone": out / "unet", "defaults": out / "defaults.json"}, family.generator_origin()
    with _new(parts["backbone"]) as folder:
        copy.deepcopy(student.unet).half().save_pretrained(folder)
        replace(told, unet=fingerprint(student.unet)).write(folder)
        write_origin(folder, origin)
    if student.network is not None:
        parts["adapter"] = out / "adapter"
        student.network.origin = origin_of(student.unet)
        with _new(parts["adapter"]) as folder:
            student.network.save(folder)
            write_origin(folder, student.network.origin | origin)
    guidance = min(limits.MAX_GUIDANCE_SCALE, recipe.served_guidance * told.guidance_scale)
    how = {"guidance_scale": guidance, "num_steps": recipe.denoising_steps, "sampler": SAMPLER}
    defaults = replace(family.request_defaults(), **how)
    write_report(parts["defaults"], asdict(defaults))
    return parts


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
