"""SPO's preference model: at first the CLIP that it was made from, then one that hears the noise level."""

import torch

from training.models.step_aware import StepAwarePreference
from training.reward.baselines.pickscore import PickScore


def test_the_preference_model_starts_as_its_clip_and_then_hears_the_level(clip) -> None:
    torch.manual_seed(0)
    pixels, ids = torch.randn(2, 3, 3, 32, 32), torch.randint(0, 40, (2, 77))
    model = StepAwarePreference(clip)
    plain = PickScore(clip)(pixels, ids)
    assert torch.equal(model(pixels, torch.tensor([10, 900]), ids), plain)
    for modulation in model.modulations:
        torch.nn.init.normal_(modulation.weight, std=0.1)
    early, late = (model(pixels, torch.full((2,), t), ids) for t in (900, 10))
    assert not torch.allclose(early, late)
    assert torch.equal(PickScore(clip)(pixels, ids), plain)  # no hook is left behind
