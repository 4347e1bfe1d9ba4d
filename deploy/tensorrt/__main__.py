"""TensorRT plans of a release's models, for this machine's GPU.

    python -m deploy.tensorrt operators         what TensorRT's parser does not support, by its published list
    python -m deploy.tensorrt check             build and check plans of the newest release; keep nothing
    python -m deploy.tensorrt store --store s3://bucket/releases --for 11.4.0.106-sm89
                                                those that are missing there, of every release that is here

`operators` needs neither GPU nor TensorRT. The others need a GPU, the packages tensorrt and cuda-bindings, and run in
the image of deploy/images/tensorrt, whose TensorRT is that of the Triton that loads the plans. A plan is tried in mixed
float16, then in float32 with rounded products, then in float32; it is kept once its outputs lie within the release's
tolerance of ONNX Runtime's. A model for which none does is served by ONNX Runtime.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from contract.errors import InputError
from contract.release import read_release
from contract.repository import Repository
from deploy.releases import model_config
from deploy.releases.errors import ReleaseError
from deploy.releases.store import CONFIG, Store
from deploy.releases.tensorrt import VARIABLE, Target, argument, key
from deploy.tensorrt import engine
from deploy.tensorrt.errors import BuildError
from deploy.tensorrt.operators import Supported, problems
from deploy.tensorrt.plans import GRAPH, Plan, Run, find
from deploy.tensorrt.samples import Samples


class Builder:
    """Builds plans for this machine's GPU, and keeps what it measures from one to the next.

    Raises:
        BuildError: there is no GPU, or no TensorRT.
    """

    def __init__(self) -> None:
        try:
            import tensorrt_bindings as tensorrt  # `tensorrt` is this, with libraries that the image has
            from cuda.bindings import runtime
        except ImportError as error:
            raise BuildError(f"{error}: run this in the image of deploy/images/tensorrt") from error
        self._trt, self._cudart, self._timings = tensorrt, runtime, b""
        self.target = Target(tensorrt.__version__, engine.capability(runtime))

    def plan(self, repository: Repository, number: int, model: str, times: float) -> Plan:
        """The plan of a model, or why there is none."""
        config = model_config.of_repository(repository.root, model)
        release = read_release(repository.release_dir(number))

        def build(graph: Path, tf32: bool) -> tuple[bytes, Run]:
            built = engine.build(self._trt, graph, engine.ranges(config), tf32=tf32, timings=self._timings)
            self._timings = built.timings
            return built.plan, engine.Engine(self._trt, self._cudart, built.plan).run

        folder, entry = repository.model_dir(model, number), release.manifest.models[model]
        return find(folder, entry, Samples(release, config), build, times)


def main() -> int:
    options = _parse()
    repository = Repository(options.repository)
    try:
        return {"operators": _operators, "check": _check, "store": _store}[options.command](repository, options)
    except (InputError, ReleaseError, OSError) as error:
        print(f"{options.command} stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _operators(repository: Repository, options: argparse.Namespace) -> int:
    supported, number = Supported.read(), _number(repository, options)
    bad = 0
    for model in repository.check(number).models:
        found = list(problems(onnx.load(repository.model_dir(model, number) / GRAPH), supported))
        print(f"{model} {number}: " + ("; ".join(found) or f"all on TensorRT {supported.tensorrt}'s list"))
        bad += bool(found)
    return int(bad > 0)


def _check(repository: Repository, options: argparse.Namespace) -> int:
    number, builder = _number(repository, options), Builder()
    print(f"release {number} for {builder.target}", flush=True)
    without = 0
    for model in repository.check(number).models:
        found = builder.plan(repository, number, model, options.times)
        print(_told(model, number, found), flush=True)
        without += found.content is None
    return int(without > 0)


def _store(repository: Repository, options: argparse.Namespace) -> int:
    store = Store(options.store)
    wanted: Target | None = options.target.target
    if wanted is None:
        raise BuildError(f"--for, or {VARIABLE}, names no GPU: say what plans are for, such as 11.4.0.106-sm89")
    missing = list(_missing(repository, store, wanted))
    if not missing:
        print(f"all that is here was looked for on {wanted}")
        return 0
    builder, unsettled = Builder(), 0
    if builder.target != wanted:
        raise BuildError(f"this machine builds for {builder.target}, --for says {wanted}: plans would not load there")
    for number, model, name in missing:
        found = builder.plan(repository, number, model, options.times)
        print(_told(model, number, found), flush=True)
        if found.settled:
            store.push_plan(str(wanted), name, _record(found), found.content)
        unsettled += not found.settled
    return int(unsettled > 0)  # the next job tries those again


def _missing(repository: Repository, store: Store, target: Target) -> Iterator[tuple[int, str, str]]:
    """Release, model and key of each model that was not looked for, the newest release first."""
    there = store.plans(str(target))
    for number in reversed(repository.numbers()):
        for model, entry in repository.check(number).models.items():
            name = key(entry, (repository.root / model / CONFIG).read_text(encoding="utf-8"))
            if name not in there:
                there.add(name)  # another release has the same
                yield number, model, name


def _number(repository: Repository, options: argparse.Namespace) -> int:
    if options.release is None and not repository.numbers():
        raise InputError(f"there is no release in {repository.root}: make export")
    return int(options.release or max(repository.numbers()))


def _record(found: Plan) -> dict[str, Any]:
    return {
        "recipe": found.recipe,
        "max_abs_error": found.max_abs_error,
        "tolerance": found.tolerance,
        "refused": list(found.refused),
    }


def _told(model: str, number: int, found: Plan) -> str:
    if found.content is None:
        return f"{model} {number}: no plan, ONNX Runtime serves it; " + "; ".join(found.refused)
    size = f"{len(found.content) / 2**20:.1f} MiB"
    error = f"lies {found.max_abs_error:.3g} from ONNX Runtime, {found.tolerance:.3g} is allowed"
    return "; ".join([f"{model} {number}: {found.recipe}, {size}, {error}", *found.refused])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.tensorrt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="of releases (default: %(default)s)"
    )
    building = argparse.ArgumentParser(add_help=False)
    building.add_argument(
        "--times", type=float, default=1.0, metavar="N",
        help="of the release's tolerance that float16 may take; float32 takes it once (default: %(default)g)",
    )  # fmt: skip
    operators = commands.add_parser("operators", parents=[everywhere], help="what the published list does not have")
    check = commands.add_parser("check", parents=[everywhere, building], help="build and check plans; keep nothing")
    for each in (operators, check):
        each.add_argument("release", type=int, nargs="?", metavar="R", help="(default: the newest)")
    store = commands.add_parser("store", parents=[everywhere, building], help="build, check and store what is missing")
    store.add_argument("--store", required=True, metavar="URL", help="of the releases, such as s3://bucket/folder")
    store.add_argument(
        "--for", dest="target", type=argument, default=os.environ.get(VARIABLE, ""), metavar="VERSION-smNN",
        help=f"TensorRT's version and the GPU's compute capability: another machine is refused (default: ${VARIABLE})",
    )  # fmt: skip
    options = parser.parse_args()
    if not getattr(options, "times", 1.0) >= 1:
        parser.error(f"--times is at least 1, not {options.times:g}")
    return options


if __name__ == "__main__":
    sys.exit(main())
