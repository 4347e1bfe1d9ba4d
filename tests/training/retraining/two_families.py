"""A live family, a candidate trained on the first groups of a table, and a judge that is neither's reward model."""

import json
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from tests.training.generator.shops import png
from tests.training.loud import make_loud
from tests.training.retraining.lake import BEGAN
from training.data.table import Candidate, Group, write_table
from training.models.family import FamilyPaths
from training.models.reward_model import PerFusionRM

TRAINED, LATER, K = 12, 24, 3


@dataclass(frozen=True)
class Two:
    """Where they lie."""

    live: Path
    candidate: Path
    judge: Path
    table: Path

    @classmethod
    def at(cls, root: Path, family: FamilyPaths) -> "Two":
        """Both families are copies of one, which draws in two steps."""
        found = cls(root / "live", root / "run" / "family", root / "judge", root / "table")
        for place in (found.live, found.candidate):
            shutil.copytree(family.reward.parent, place)
            (place / "defaults.json").write_text('{"num_steps": 2}')
        make_loud(PerFusionRM(family.clip(), family.schema()), 0.2).save(found.judge / "perfusion_rm")
        rng = np.random.default_rng(0)
        groups = [group(n, rng) for n in range(TRAINED + LATER)]
        write_table(found.table, groups, family.schema())
        write_table(root / "trained", groups[:TRAINED], family.schema())
        record = {"table": str(root / "trained"), "table_version": "a hash", "hold_out": {"groups": []}}
        (found.candidate / "retraining.json").write_text(json.dumps(record))
        return found


def group(n: int, rng: np.random.Generator, merchant: str | None = None) -> Group:
    picked = int(rng.integers(K))
    candidates = tuple(Candidate(f"{n}-{k}", k == picked, png(rng)) for k in range(K))
    profile = {"style": ("minimalist", "luxury")[n % 2], "years_open": float(n)}
    prompt = ("dress,red", "hoodie,blue", "dress,striped")[n % 3]
    at = BEGAN + timedelta(minutes=n)
    return Group(f"g{n:05d}", merchant or f"merchant {n % 12}", prompt, candidates, profile, "feedback", at, 6)
