"""PerFusion, its ablations and the baselines by name: how each is trained, stage by stage, and how it draws.

sd              the pre-trained U-Net
sft, dpo, spo   the same U-Net fine-tuned on all merchants' picks: Eq. 1 on picks, Diffusion-DPO, SPO
pmg             sd, with the keywords of each merchant's history weighted into the prompt (PMG without a language model)
perfusion       the paper's: on dpo's U-Net the adaptive network, Eq. 1 on picks, then Eq. 13
perfusion_plus  the release's: dpo, with the merchant's wishes by the family's preference weights
without_pan     dpo's U-Net itself by Eq. 13, without the merchant
without_gobj    the adaptive network by Eq. 1 alone
without_both    dpo's U-Net itself by Eq. 1
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from lab.generation.names import METHODS as METHODS
from lab.generation.names import Method as Method
from training.common.errors import ModelError
from training.common.storage import fingerprint
from training.data.groups import GroupTensors
from training.generator.recipes import GeneratorRecipe, Stage, tiny
from training.generator.spo_recipes import SpoRecipes
from training.generator.spo_recipes import tiny as tiny_spo
from training.generator.spo_training import train as train_spo
from training.generator.training import train_stage
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import Policy, to_draw_with

PERSONAL: tuple[Method, ...] = ("perfusion", "perfusion_plus", "pmg", "without_gobj")
Chain = tuple[Stage | Literal["spo"], ...]
CHAINS: Mapping[Method, Chain] = {
    "sd": (), "pmg": (), "sft": ("unet_sft",), "spo": ("spo",), "dpo": ("dpo",), "perfusion_plus": ("dpo",),
    "without_both": ("dpo", "unet_sft"), "without_pan": ("dpo", "unet_group"), "without_gobj": ("dpo", "sft"),
    "perfusion": ("dpo", "sft", "group"),
}  # fmt: skip


def recipe_of(chain: Chain, seed: int) -> GeneratorRecipe | SpoRecipes:
    """The recipe of a chain's last stage."""
    stage = chain[-1]
    return tiny_spo(seed) if stage == "spo" else replace(tiny(stage), seed=seed)


def groups_seen(method: Method) -> int:
    """How many groups the trainings of its U-Net and adapter used, with repetitions.

    For SPO, those of its preference model. PMG's histories and the preference weights' groups do not count.
    """
    recipes = [recipe_of(CHAINS[method][:n], 0) for n in range(1, len(CHAINS[method]) + 1)]
    of_spo = [r.step_aware.steps * r.step_aware.groups_per_batch for r in recipes if isinstance(r, SpoRecipes)]
    return sum(of_spo) + sum(r.steps * r.groups_per_batch for r in recipes if isinstance(r, GeneratorRecipe))


def base_of(groups: GroupTensors, family: FamilyPaths) -> str:
    """A hash of the data and the weights that all trainings start from."""
    return f"{groups.fingerprint()} {fingerprint(family.unet())}"


def stamp(chain: Chain, seed: int, base: str) -> str:
    """A hash of a chain's inputs: every stage's recipe, and `base`, which is base_of's."""
    recipes = [asdict(recipe_of(chain[:n], seed)) for n in range(1, len(chain) + 1)]
    return hashlib.sha256(json.dumps([base, list(chain), recipes]).encode()).hexdigest()[:16]


def folder(runs: Path, chain: Chain, seed: int) -> Path:
    """The folder of the run of a chain's last stage."""
    return runs / f"{'-'.join(chain)}-{seed}"


def is_trained(runs: Path, chain: Chain, seed: int, base: str) -> bool:
    """Whether its last stage is finished.

    Raises:
        ModelError: it has other inputs, and a table must not mix the two.
    """
    done = folder(runs, chain, seed) / "done"
    if done.exists() and done.read_text() != stamp(chain, seed, base):
        raise ModelError(f"{done.parent}: other data, weights or recipes made it; remove it, or choose another --work")
    return done.exists()


def train_last(chain: Chain, groups: GroupTensors, family: FamilyPaths, runs: Path, seed: int, base: str) -> None:
    """Trains (or resumes) a chain's last stage on the results of the stages before it."""
    out, recipe = folder(runs, chain, seed), recipe_of(chain, seed)
    unet, adapter = left_by(chain[:-1], runs, seed)
    if isinstance(recipe, GeneratorRecipe):
        train_stage(recipe, groups, family, out, unet=unet, start=adapter)
    else:
        train_spo(recipe, groups, family, out)
    (out / "done").write_text(stamp(chain, seed, base))


def left_by(chain: Chain, runs: Path, seed: int) -> tuple[Path | None, Path | None]:
    """The U-Net and the adapter at the end of a chain; None: the family's U-Net, or no adapter."""
    unet = adapter = None
    for n in range(1, len(chain) + 1):
        out = folder(runs, chain[:n], seed)
        if chain[n - 1] == "spo":
            unet = out / "spo" / "unet"
        elif (out / "unet").exists():
            unet = out / "unet"
        else:
            adapter = out / "adapter"
    return unet, adapter


def policy_of(method: Method, family: FamilyPaths, runs: Path, seed: int) -> Policy:
    """The trained method."""
    unet_path, adapter = left_by(CHAINS[method], runs, seed)
    unet = load_unet(unet_path) if unet_path else family.unet()
    return to_draw_with(unet, adapter, family.schema())
