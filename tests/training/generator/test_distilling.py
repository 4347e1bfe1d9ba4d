"""A student learns its teacher's ways, resumes bit by bit, and takes the teacher's place in a family."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.common.errors import WeightsError
from training.common.loop import ResumeError
from training.generator import trajectories as module
from training.generator.asking import Asker
from training.generator.distil_recipes import DistilRecipe
from training.generator.distilling import Distillation, Student, distil, held_out_errors
from training.generator.drawing import Generator
from training.generator.trajectories import Levels, Trajectories
from training.models.family import FamilyPaths, new_family

RECIPE = DistilRecipe(
    jump_steps=3, way_steps=2, lr=1e-3, way_lr=1e-3, trajectories=6, held_out=2, denoising_steps=2, between=2,
    jumps_per_batch=4, ways_per_batch=2, warmup_steps=1, ema=0.5,
)  # fmt: skip
ASKER = Asker(["dress,red", "coat,belted"], np.array([[1, 1, 0, 2], [2, 2, 3, 4]]))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 4)
    monkeypatch.setattr("training.common.loop.plot_log", lambda *_: None)


@pytest.fixture
def student(family: FamilyPaths) -> Student:
    unet = family.backbone_unet()
    return Student(unet, family.perfusion(unet))


def straight(n: int, levels: Levels) -> Trajectories:
    """Ways of a teacher who always foresees the same clean latents."""
    generator = torch.Generator().manual_seed(0)
    noise, clean = (torch.randn(n, 1, 4, 8, 8, generator=generator) for _ in range(2))
    a = levels.alphas_bar.view(1, -1, 1, 1, 1)
    text = torch.randn(n, 77, 12, generator=generator)
    return Trajectories(
        text, torch.ones(n, 4, dtype=torch.long), torch.ones(n), a.sqrt() * clean + (1 - a).sqrt() * noise
    )


class Knowing(torch.nn.Module):
    """Who knows the clean latents of one trajectory."""

    def __init__(self, clean: torch.Tensor, levels: Levels) -> None:
        super().__init__()
        self.clean, self.levels = torch.nn.Parameter(clean), levels

    def forward(self, latents: torch.Tensor, t: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        at = (self.levels.timesteps == t[:, None]).int().argmax(1)
        a = self.levels.alphas_bar[at].view(-1, 1, 1, 1)
        return (latents - a.sqrt() * self.clean) / (1 - a).sqrt()


@pytest.mark.parametrize("stage", ["jumps", "ways"])
def test_who_foresees_what_the_teacher_does_has_no_error(family: FamilyPaths, stage) -> None:
    levels = Levels.of(family, 4)
    drawn = straight(1, levels).rows(slice(0, 1))
    twice = Trajectories(*(torch.cat([x, x]) for x in vars(drawn).values()))
    recipe = replace(RECIPE, held_out=1, astray=1.0)
    knowing = Distillation(stage, recipe, twice, levels, Knowing(drawn.latents[0, -1], levels))  # type: ignore[arg-type]
    assert knowing.step(0)["loss"] < 1e-8
    off = Distillation(stage, recipe, twice, levels, Knowing(drawn.latents[0, -1] + 1, levels))  # type: ignore[arg-type]
    assert off.step(0)["loss"] > 1e-3


@pytest.mark.parametrize("stage", ["jumps", "ways"])
def test_the_error_on_what_it_learns_from_falls(family: FamilyPaths, student: Student, stage) -> None:
    levels = Levels.of(family, 4)
    drawn = straight(4, levels)
    recipe = replace(RECIPE, jump_steps=5, way_steps=5, lr=3e-3, way_lr=3e-3, ema=0.0)
    same = Trajectories(*(torch.cat([x[:2], x[:2]]) for x in vars(drawn).values()))
    run = Distillation(stage, recipe, same, levels, student)
    before = {n: p.clone() for n, p in student.named_parameters()}
    first = run.measure(4)  # of the same trajectories
    for n in range(5):
        run.step(n)
    assert run.measure(3) == {}
    assert all(value < 0.95 * first[name] for name, value in run.measure(4).items())
    moved = {n.split(".")[0] for n, p in student.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"unet", "network"}


def test_parts_of_a_batch_add_up_to_it(family: FamilyPaths, student: Student) -> None:
    levels = Levels.of(family, 4)
    whole, parts = (
        Distillation("jumps", replace(RECIPE, accumulate=n), straight(6, levels), levels, copy.deepcopy(student))
        for n in (1, 3)
    )
    assert whole.step(0)["loss"] == pytest.approx(parts.step(0)["loss"], rel=1e-4)


def test_a_student_takes_its_teachers_place_and_a_killed_distillation_ends_in_the_same_one(
    family: FamilyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = distil(RECIPE, ASKER, family, tmp_path / "whole")
    step, steps = Distillation.step, iter(range(RECIPE.jump_steps + 1))
    with monkeypatch.context() as killed:
        killed.setattr(Distillation, "step", lambda self, n: step(self, n) if next(steps, None) is not None else stop())
        with pytest.raises(KeyboardInterrupt):
            distil(RECIPE, ASKER, family, tmp_path / "halves")
    resumed = distil(RECIPE, ASKER, family, tmp_path / "halves")
    assert resumed.keys() == parts.keys() == {"backbone", "adapter", "defaults"}
    for part in parts:
        files = sorted(p.relative_to(parts[part]) for p in parts[part].rglob("*.safetensors"))
        assert all((parts[part] / f).read_bytes() == (resumed[part] / f).read_bytes() for f in files)
    with new_family(family, parts, tmp_path / "family"):
        pass
    made = FamilyPaths.under(tmp_path / "family")
    made.check_origins()
    how, told = made.request_defaults(), made.distilled()
    assert (how.guidance_scale, how.num_steps, how.sampler) == (5, 2, "ddim") and told and told.guidance_scale == 4
    drawn = Generator(made).draw(["dress,red"], ASKER.features[:1], torch.randn(1, 2, 4, 8, 8), None)
    assert drawn.shape == (1, 2, 16, 16, 3)
    assert held_out_errors(tmp_path / "whole").keys() == {"held_out_first", "held_out_last"}
    with pytest.raises(WeightsError, match="is distilled"):
        distil(RECIPE, ASKER, made, tmp_path / "again")
    for recipe, asker, told in (
        (replace(RECIPE, varied=0.5), ASKER, "varied was 0.1 and is 0.5"),
        (RECIPE, replace(ASKER, prompts=["dress", "coat"]), "asked was"),
        (replace(RECIPE, lr=0.01), ASKER, "lr was 0.001 and is 0.01"),
    ):
        with pytest.raises(ResumeError, match=told):
            distil(recipe, asker, family, tmp_path / "whole")


def stop() -> dict[str, float]:
    raise KeyboardInterrupt
