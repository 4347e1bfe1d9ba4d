"""Stages a family as a release: what can be linked, what is exported in worker processes, and the manifest last.

Every ONNX graph is checked against its config.pbtxt and against torch; on a mismatch there is no release. Models that
an older release holds, of the same sources, are linked. Knows the order of an export; release.py knows the files.
"""

import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from contract.release import Manifest, ModelFiles
from contract.repository import EXPORT, Repository, sha256
from training.exporting.errors import made_of
from training.exporting.graphs import BUILDERS, SOURCES
from training.exporting.manifest import build_manifest, release_texts
from training.exporting.onnx_file import export_onnx
from training.exporting.pool import each, workers
from training.exporting.preflight import check_family, check_model
from training.exporting.release import (
    check_beside,
    clear,
    exported_before,
    fingerprint,
    link,
    newest,
    next_number,
    stage,
    staging_dir,
)
from training.exporting.samples import Samples
from training.exporting.tensor_contract import read_contract
from training.models.family import COMPONENTS, FamilyPaths, hush_libraries

CODE = [Path(__file__).parents[1] / name for name in ("exporting", "models", "wishes/preferences.py")]


@dataclass(frozen=True)
class ModelJob:
    """One model to export, as a worker process gets it."""

    model: str
    paths: FamilyPaths
    repository: Path
    into: Path
    fingerprint: str


def export_family(paths: FamilyPaths, repository: Repository, processes: int) -> int:
    """Stages this family as a release; returns its number, the newest one's if that is the same."""
    with repository.lock(EXPORT, "an export"):
        return _export(paths, repository, processes)


def _export(paths: FamilyPaths, repository: Repository, processes: int) -> int:
    clear(repository)
    contracts = {model: read_contract(repository.root, model) for model in BUILDERS}
    paths.check_pipeline(COMPONENTS[1:] if paths.backbone.exists() else COMPONENTS)
    prints = {model: _fingerprint(model, paths, repository) for model in BUILDERS}
    before = exported_before(repository, prints)
    done = {model: entry for model, (_, entry) in before.items()}
    check_family(paths, repository.root, contracts)
    texts = release_texts(paths, contracts)
    number = next_number(repository)
    manifest = build_manifest(number, paths, contracts, done)  # first, since it may refuse, and exporting takes long
    check_beside(repository, manifest.sizes)
    last = newest(repository)
    if last is not None and _same(repository, last, manifest, texts):
        return last.release
    staging = staging_dir(repository, number)
    try:
        for model, (old, _) in before.items():
            link(repository, model, old, staging / model)
        jobs = [
            ModelJob(model, paths, repository.root, staging / model, prints[model])
            for model in BUILDERS
            if model not in done
        ]
        models = done | _export_all(jobs, processes)
        stage(repository, replace(manifest, models={model: models[model] for model in BUILDERS}), texts)
    finally:
        clear(repository)
    return number


def _fingerprint(model: str, paths: FamilyPaths, repository: Repository) -> str:
    """A hash of everything that the exported file depends on."""
    config = repository.root / model / "config.pbtxt"
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "diffusers", "transformers"))
    return fingerprint([*SOURCES[model](paths), config, *CODE], versions)


def _same(repository: Repository, last: Manifest, manifest: Manifest, texts: dict[str, str]) -> bool:
    """Whether exporting would only repeat the newest release."""
    again = replace(
        manifest,
        release=last.release,
        source_commit=last.source_commit,
        create_time=last.create_time,
        texts=last.texts,
    )
    directory = repository.release_dir(last.release)
    kept = last.texts.keys() <= texts.keys() and all(
        (directory / name).is_file() and (directory / name).read_text() == text for name, text in texts.items()
    )
    return kept and len(manifest.models) == len(BUILDERS) and again == last


def _export_all(jobs: list[ModelJob], processes: int) -> dict[str, ModelFiles]:
    """Checks all models, then exports them, in worker processes; the first refusal stops everything."""
    if not jobs:  # only texts are new
        return {}
    results = {}
    with workers(min(processes, len(jobs))) as pool:
        for _ in each(pool, check_one, jobs):
            pass
        with tqdm(total=len(jobs), desc="exporting models", unit="model") as bar:
            for job, (entry, took_s) in each(pool, export_one, jobs):
                results[job.model] = entry
                bar.update()
                bar.set_postfix_str(f"{job.model} in {took_s:.0f} s")
    return results


def check_one(job: ModelJob) -> None:
    """What export_one would refuse after minutes, in seconds."""
    hush_libraries()
    check_model(job.model, job.paths, read_contract(job.repository, job.model))


def export_one(job: ModelJob) -> tuple[ModelFiles, float]:
    """Export one model into its staging directory; its entry in the manifest, and how long it took in seconds."""
    began = time.monotonic()
    hush_libraries()
    contract = read_contract(job.repository, job.model)
    draw = Samples(job.paths, job.model).draw
    with made_of(SOURCES[job.model](job.paths)):
        verified = export_onnx(BUILDERS[job.model](job.paths, contract), contract, draw, job.into / "model.onnx")
    files = {path.name: sha256(path) for path in sorted(job.into.iterdir())}
    entry = ModelFiles(files, verified.max_abs_error, verified.tolerance, job.fingerprint)
    return entry, time.monotonic() - began
