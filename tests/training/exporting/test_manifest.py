"""What the export lets through is what services can serve: the halves import nothing of each other, this does."""

from services.generation import validation
from services.generation.schedulers import SAMPLERS, cumulative_alphas
from training.exporting.manifest import BETA_SCHEDULES, DEFAULTS, HIGHEST, SCHEDULERS


def test_the_export_knows_the_services_limits() -> None:
    assert set(SCHEDULERS) == set(SAMPLERS) and DEFAULTS["scheduler"] in SAMPLERS
    limits = (validation.MAX_GUIDANCE, validation.MAX_ADAPTER_SCALE, validation.MAX_STEPS)
    assert tuple(HIGHEST[name] for name in ("guidance_scale", "adapter_scale", "num_steps")) == limits
    for schedule in BETA_SCHEDULES:
        assert len(cumulative_alphas(1000, 8.5e-4, 0.012, schedule)) == 1000
