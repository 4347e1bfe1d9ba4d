"""What the generation table is made of, by name: methods, splits, seeds. Knows names only, and no torch."""

from pathlib import Path
from typing import Literal, get_args

Method = Literal[
    "perfusion", "perfusion_plus", "sd", "sft", "spo", "dpo", "pmg", "without_pan", "without_gobj", "without_both",
]  # fmt: skip
METHODS: tuple[Method, ...] = get_args(Method)
Split = Literal["seen", "unseen", "shuffled", "permuted", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)
DRAWN: tuple[Split, ...] = ("seen", "unseen", "permuted")  # the pictures of seen also serve as shuffled
SEEDS = (0, 1, 2)
WORK = Path("build/eval/generation")
