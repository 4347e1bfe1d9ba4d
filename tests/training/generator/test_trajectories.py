"""A teacher's trajectories: what the drawing of pictures does step by step, kept part by part."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.common.loop import ResumeError
from training.generator import trajectories as module
from training.generator.asking import Asker, Asking
from training.generator.distil_recipes import DistilRecipe
from training.generator.drawing import sampler_of
from training.generator.sampling import sample
from training.generator.trajectories import SAMPLER, Levels, Trajectories, teacher_sampler, trajectories, way_of
from training.models.denoiser import PersonalisedDenoiser
from training.models.distilled import Distilled
from training.models.family import FamilyPaths
from training.models.policies import to_draw_with

RECIPE = DistilRecipe(jump_steps=1, way_steps=1, lr=1e-3, way_lr=1e-3, trajectories=3, held_out=2, denoising_steps=2)
ASKER = Asker(["dress,red", "coat,belted"], np.array([[1, 1, 0, 2], [2, 2, 3, 4]]))
DISTILLED = Distilled(4.0, "", "")


@pytest.fixture
def asking(family: FamilyPaths) -> Asking:
    return Asking(ASKER, family, replace(RECIPE, varied=0.0), (4, 8, 8))


@pytest.fixture
def teacher(family: FamilyPaths) -> PersonalisedDenoiser:
    unet = family.backbone_unet()
    return PersonalisedDenoiser(unet, family.perfusion(unet)).eval()


def test_a_way_ends_where_a_picture_is_drawn(
    family: FamilyPaths, teacher: PersonalisedDenoiser, asking: Asking
) -> None:
    asked = asking.draw(0, 2)
    way = way_of(teacher, asked, teacher_sampler(family, 4))
    policy = to_draw_with(family.backbone_unet(), family.adapter, family.schema())

    def conditional(z: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return policy(z, t, text, asked.features, with_reference=False).policy

    how = {"guidance": 4.0, "steps": 4, "scheduler": sampler_of(family, SAMPLER)}
    drawn = sample(conditional, policy.without_user, asked.text, asking.no_text, asked.noise, **how)
    assert way.shape == (2, 5, 4, 8, 8) and torch.equal(way[:, 0], asked.noise)
    torch.testing.assert_close(way[:, -1], drawn, atol=1e-4, rtol=1e-4)


def test_levels_are_those_of_the_steps_and_end_at_clean_latents(family: FamilyPaths) -> None:
    levels = Levels.of(family, 4)
    assert levels.timesteps.tolist() == [999, 749, 499, 249]
    assert len(levels.alphas_bar) == 5 and levels.alphas_bar[-1] == 1
    assert (levels.alphas_bar.diff() > 0).all()
    assert Levels.of(family, 8).timesteps[::2].tolist() == levels.timesteps.tolist()


def test_what_is_on_disk_is_not_drawn_again_and_what_was_lost_is_the_same(
    family: FamilyPaths,
    teacher: PersonalisedDenoiser,
    asking: Asking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PART", 4)

    def drawn(made_with: int = 1) -> Trajectories:
        told = {"made_with": made_with}
        return trajectories(tmp_path, teacher, asking, DISTILLED, family, RECIPE, told)

    first, parts = drawn(), sorted(tmp_path.glob("part-*.npz"))
    assert len(first) == 5 and len(parts) == 2 and first.latents.shape == (5, 5, 4, 8, 8)
    torch.testing.assert_close(first.text[:4], asking.draw(0, 4).text.half())
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    again = drawn()
    assert parts[0].stat().st_mtime_ns == kept
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(first).items())
    with pytest.raises(ResumeError, match="other trajectories: made_with was 1 and is 2"):
        drawn(2)
