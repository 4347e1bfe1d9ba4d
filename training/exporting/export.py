"""Exports a family of models to Triton's model repository as one release.

`python -m training.exporting.export` exports the tiny family. Every ONNX graph is checked against its
config.pbtxt and against torch; on a mismatch the release in service stays. Models whose sources
did not change since the release in service are linked, not exported again.
"""

import argparse
import multiprocessing
import shutil
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from contract.errors import InputError
from contract.release import Manifest, ModelFiles, Sizes
from training.exporting.graphs import BUILDERS, SOURCES
from training.exporting.manifest import build_manifest, release_texts
from training.exporting.onnx_file import export_onnx
from training.exporting.release import Repository, fingerprint, sha256
from training.exporting.samples import Samples
from training.exporting.tensor_contract import read_contract
from training.models.family import COMPONENTS, TINY, FamilyPaths, hush_libraries

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
    """Put this family in service; returns the release's number, the present one if nothing changed."""
    contracts = {model: read_contract(repository.root, model) for model in BUILDERS}
    paths.check_pipeline(COMPONENTS[1:] if paths.backbone.exists() else COMPONENTS)
    prints = {model: _fingerprint(model, paths, repository) for model in BUILDERS}
    current = repository.current()
    done = {} if current is None else _unchanged(current, prints)
    texts = release_texts(paths, contracts)
    number = repository.next_number()
    manifest = build_manifest(number, paths, contracts, done)  # first, since it may refuse, and exporting takes long
    if current is not None and _same(repository, current, manifest, texts):
        _retire(repository, manifest.sizes)
        return current.release
    staging = repository.staging_dir(number)
    shutil.rmtree(staging, ignore_errors=True)
    for model in done:
        assert current is not None
        repository.link(model, current.release, staging / model)
    jobs = [
        ModelJob(model, paths, repository.root, staging / model, prints[model])
        for model in BUILDERS
        if model not in done
    ]
    models = done | _export_all(jobs, processes)
    repository.publish(replace(manifest, models={model: models[model] for model in BUILDERS}), texts)
    _retire(repository, manifest.sizes)
    return number


def _retire(repository: Repository, sizes: Sizes) -> None:
    for old in repository.retire_all_but(sizes):
        print(f"release {old} removed: its tensors have other sizes than config.pbtxt now says, or it cannot be read")


def _fingerprint(model: str, paths: FamilyPaths, repository: Repository) -> str:
    """A hash of everything that the exported file depends on."""
    config = repository.root / model / "config.pbtxt"
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "diffusers", "transformers"))
    return fingerprint([*SOURCES[model](paths), config, *CODE], versions)


def _unchanged(current: Manifest, prints: dict[str, str]) -> dict[str, ModelFiles]:
    """The entries of models that the release in service already has."""
    return {
        model: current.models[model]
        for model, value in prints.items()
        if model in current.models and current.models[model].fingerprint == value
    }


def _same(repository: Repository, current: Manifest, manifest: Manifest, texts: dict[str, str]) -> bool:
    """Whether exporting would only repeat the release in service."""
    again = replace(
        manifest, release=current.release, source_commit=current.source_commit, create_time=current.create_time
    )
    directory = repository.release_dir(current.release)
    kept = all((directory / name).is_file() and (directory / name).read_text() == text for name, text in texts.items())
    return kept and len(manifest.models) == len(BUILDERS) and again == current


def _export_all(jobs: list[ModelJob], processes: int) -> dict[str, ModelFiles]:
    """Export in worker processes; the first refusal stops everything."""
    if not jobs:  # only texts are new
        return {}
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with (
        tqdm(total=len(jobs), desc="exporting models", unit="model") as bar,
        ProcessPoolExecutor(min(processes, len(jobs)), context) as pool,
    ):
        futures: dict[Future[tuple[ModelFiles, float]], str] = {pool.submit(export_one, job): job.model for job in jobs}
        results = {}
        for future in as_completed(futures):
            try:
                results[futures[future]], took_s = future.result()
            except Exception:
                pool.shutdown(cancel_futures=True)
                raise
            bar.update()
            bar.set_postfix_str(f"{futures[future]} in {took_s:.0f} s")
    return results


def export_one(job: ModelJob) -> tuple[ModelFiles, float]:
    """Export one model into its staging directory; its entry in the manifest, and how long it took in seconds."""
    began = time.monotonic()
    hush_libraries()
    contract = read_contract(job.repository, job.model)
    draw = Samples(job.paths, job.model).draw
    verified = export_onnx(BUILDERS[job.model](job.paths, contract), contract, draw, job.into / "model.onnx")
    files = {path.name: sha256(path) for path in sorted(job.into.iterdir())}
    entry = ModelFiles(files, verified.max_abs_error, verified.tolerance, job.fingerprint)
    return entry, time.monotonic() - began


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=TINY, help="a whole family's directory (default: %(default)s)")
    for field in fields(FamilyPaths):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=Path, help=f"{field.name} from elsewhere than in --weights")
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="where config.pbtxt files are"
    )
    parser.add_argument("--processes", type=int, default=2, help="models exported at a time (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error("--processes is at least 1")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    hush_libraries()
    elsewhere = {f.name: getattr(arguments, f.name) for f in fields(FamilyPaths)}
    if arguments.pipeline and not arguments.backbone:
        elsewhere["backbone"] = arguments.pipeline / "unet"  # not another pipeline's
    paths = replace(FamilyPaths.under(arguments.weights), **{name: path for name, path in elsewhere.items() if path})
    began = time.monotonic()
    try:
        number = export_family(paths, Repository(arguments.repository), arguments.processes)
    except InputError as error:
        print(f"export refused: {error}", file=sys.stderr)
        return 1
    print(f"release {number} is in service, after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
