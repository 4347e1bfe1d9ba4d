"""Where things lie unless a command is told otherwise, relative to the repository's root. Knows paths only."""

from pathlib import Path

TINY = Path("training/weights/tiny")  # the committed family
CACHE = Path("build/prepared")  # arrays, prepared once from tables
FAMILY_PARTS = (  # what training.models.family.FamilyPaths has a path for
    "pipeline", "reward", "perfusion_rm", "backbone", "adapter", "preferences", "feature_schema", "phrases", "defaults",
    "retraining",
)  # fmt: skip
