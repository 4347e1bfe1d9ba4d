"""The parts that a retraining trains, each by its own training, from the base family and the parts before it.

    wishes    preference weights, from what candidates show
    reward    PerFusionRM's plug-ins on the frozen CLIP, Eq. 7–9
    adapter   by the gradient of the reward model that was just trained, and then by Eq. 13 with the served generator
              as reference: on those groups alone, all of whose candidates were drawn by a release with the base
              family's generator. Original data, which no generator of ours drew, have no place in it.
    student   a generator of fewer steps and one pass a step, distilled from the base family's with the parts above

Each resumes where it stopped, and is not repeated once it is finished. Knows trainings and tables; not how parts become
a family.
"""

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from contract.errors import ManifestError
from contract.release import read_manifest
from contract.repository import Repository
from training.common.storage import ORIGIN_FILE
from training.data.delta import delta_name, open_delta
from training.data.groups import GroupError
from training.data.load import generator_groups
from training.data.table import Group, read_table, write_table
from training.exporting.manifest import weights_of
from training.generator.asking import Asker
from training.generator.distilling import distil, held_out_errors
from training.generator.training import train_stage
from training.models.family import FamilyPaths
from training.retraining.material import Material
from training.retraining.plan import STAGES, Plan
from training.reward.models import Starts
from training.reward.training import train
from training.wishes.training import train_on

Trained = tuple[dict[str, Path], dict[str, Any]]  # parts of a family and where they are; what was measured
DRAWS = ("backbone/", "pipeline/", "adapter/")  # weights that decide how pictures are drawn


def train_wishes(plan: Plan, family: FamilyPaths, table: Path, material: Material) -> Trained:
    """The preference weights.

    Raises:
        GroupError: the picks favour no phrase.
    """
    out = plan.out / "wishes"
    if not (out / "preferences" / ORIGIN_FILE).is_file():  # written last
        train_on(material.groups, material.tags, family, out)
    return {"preferences": out / "preferences"}, json.loads((out / "picks.json").read_text())


def train_reward(plan: Plan, family: FamilyPaths, table: Path, material: Material) -> Trained:
    """The reward model's plug-ins."""
    out = plan.out / "reward"
    if not (out / "result.json").is_file():  # written last
        clip = family.clip()
        starts = Starts(clip, tokenizer=family.reward_tokenizer())
        train(plan.reward, material.groups, starts, family.preprocess(clip), out)
    return {"perfusion_rm": out / plan.reward.model}, json.loads((out / "result.json").read_text())["held_out"]


def train_adapter(plan: Plan, family: FamilyPaths, table: Path, material: Material) -> Trained:
    """The personalised adaptive network.

    Raises:
        GroupError: no collected group was drawn by the base family's generator.
    """
    assert plan.repository is not None
    out, releases = plan.out / "adapter", releases_drawing_like(family, Repository(plan.repository))
    work = plan.out / "work" / "adapter"  # merchants' data, removed at the end of the run
    drawn = work / "table"
    if not (drawn / "feature_schema.json").is_file():  # written last
        chosen = list(drawn_by(table, releases, material.trained))
        if not chosen:
            which = ", ".join(map(str, sorted(releases))) or "there are none"
            raise GroupError(f"the base family's generator drew no group that trains (releases with it: {which})")
        for unfinished in drawn.glob("groups-*.parquet"):
            unfinished.unlink()
        write_table(drawn, chosen, family.schema())
    groups, start = generator_groups(drawn, family, work / "prepared"), None
    for stage in STAGES:
        below = family.backbone_files
        start = train_stage(plan.adapter[stage], groups, family, out / stage, unet=below, start=start)
    assert start is not None
    return {"adapter": start}, {"groups": len(groups), "releases": sorted(releases)}


def train_student(plan: Plan, family: FamilyPaths, table: Path, material: Material) -> Trained:
    """The student, which takes the places of the U-Net, the adapter and the defaults.

    Raises:
        WeightsError: the base family's generator is a student itself.
    """
    out, work = plan.out / "student", plan.out / "work" / "student"  # merchants' data, removed at the end of the run
    parts = distil(plan.student, Asker.of_groups(material.groups), family, out, work)
    return parts, held_out_errors(out)


TRAIN: dict[str, Callable[[Plan, FamilyPaths, Path, Material], Trained]] = {
    "wishes": train_wishes, "reward": train_reward, "adapter": train_adapter, "student": train_student,
}  # fmt: skip


def releases_drawing_like(family: FamilyPaths, repository: Repository) -> set[int]:
    """The releases that draw with the weights of this family; wishes and reward models may be others."""
    own, found = _drawing(weights_of(family)), set[int]()
    for number in repository.numbers():
        try:
            manifest = read_manifest(repository.release_dir(number))
        except ManifestError:
            continue
        if _drawing(manifest.weights) == own:
            found.add(number)
    return found


def drawn_by(table: Path, releases: Collection[int], wanted: Collection[str]) -> Iterator[Group]:
    """Of the wanted groups those, all of whose candidates these releases drew."""
    by_others = {group_id for group_id, drawn in _releases_of(table) if not drawn <= set(releases)}
    for group in read_table(table):
        if group.group_id in wanted and group.group_id not in by_others:
            yield group


def _releases_of(table: Path) -> Iterator[tuple[str, set[int | None]]]:
    """Each group with the releases that drew its candidates: of the group's release where a table says no more."""
    if (name := delta_name(table)) is None:
        yield from ((group.group_id, {group.release}) for group in read_table(table, images=False))
        return
    dataset = open_delta(name).to_pyarrow_dataset()
    for batch in dataset.to_batches(columns=["group_id", "release", "candidates"]):
        for row in batch.to_pylist():
            yield row["group_id"], {entry.get("release") or row["release"] for entry in row["candidates"]}


def _drawing(weights: Any) -> dict[str, str]:
    return {name: digest for name, digest in weights.items() if name.startswith(DRAWS)}
