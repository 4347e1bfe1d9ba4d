"""The sets and seeds of the preference table. Knows the market's recipes, and no torch."""

from dataclasses import replace
from pathlib import Path

from lab.market.table import MarketRecipe, industrial, pickapic_like

SEEDS = (0, 1, 2, 3, 4)
WORK = Path("build/eval/reward")
LEARNING_CURVE = (15_000, 30_000, 60_000)  # training groups, beside all of them
CURVE_SEEDS = 3  # the first of the seeds
TRAINING: dict[str, MarketRecipe] = {"industrial": industrial(), "pickapic_like": pickapic_like()}
TEST: dict[str, dict[str, MarketRecipe]] = {  # rounds of their own: other seeds, and other merchants for `unseen`
    "industrial": {
        "industrial": replace(industrial(), groups=4_000, seed=2),
        "industrial_unseen": replace(industrial(), groups=4_000, seed=3, first_merchant=2_000),
    },
    "pickapic_like": {"pickapic_like": replace(pickapic_like(), groups=8_000, seed=4)},
}
