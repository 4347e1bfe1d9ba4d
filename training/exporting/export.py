"""Exports a family of models to Triton's model repository as one release, and stages it: nothing that serves changes.

`python -m training.exporting.export` exports the tiny family. Every ONNX graph is checked against its config.pbtxt and
against torch; on a mismatch there is no release. Models that an older release holds, of the same sources, are linked.
`python -m deploy.releases` brings a staged release into service.
"""

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from contract.errors import InputError
from contract.repository import Repository
from training.common.commands import parser_of
from training.common.places import FAMILY_PARTS, TINY

DEFAULT_REPOSITORY = Path("model_repository")


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, default=TINY, help="a whole family's directory (default: %(default)s)")
    for part in FAMILY_PARTS:
        flag = "--" + part.replace("_", "-")
        parser.add_argument(flag, type=Path, help=f"{part} from elsewhere than in --weights")
    parser.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY, help="where config.pbtxt files are")
    parser.add_argument("--processes", type=int, default=2, help="models exported at a time (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error("--processes is at least 1")
    return arguments


def main() -> int:
    arguments = parse_arguments()

    from training.exporting.pool import stop_on_sigterm  # torch takes seconds to load
    from training.exporting.staging import export_family
    from training.models.family import FamilyPaths, hush_libraries

    stop_on_sigterm()
    hush_libraries()
    elsewhere = {part: getattr(arguments, part) for part in FAMILY_PARTS}
    if arguments.pipeline and not arguments.backbone:
        elsewhere["backbone"] = arguments.pipeline / "unet"  # not another pipeline's
    paths = replace(FamilyPaths.under(arguments.weights), **{name: path for name, path in elsewhere.items() if path})
    began, repository = time.monotonic(), Repository(arguments.repository)
    try:
        before = repository.numbers()
        number = export_family(paths, repository, arguments.processes)
        live = repository.live()
    except (InputError, OSError) as error:
        print(f"export refused: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export interrupted: no release is written", file=sys.stderr)
        return 130
    took = f"staged in {arguments.repository} after {time.monotonic() - began:.0f} s"
    print(f"release {number} " + ("holds this family already, nothing is written" if number in before else took))
    print(_next(number, live, arguments.repository))
    return 0


def _next(number: int, live: int | None, repository: Path) -> str:
    """What to do with a staged release."""
    if number == live:
        return "it is live"
    if live is None:
        return "no release is live yet: the first start of the platform on this repository (make up) promotes it"
    where = "" if repository == DEFAULT_REPOSITORY else f" --repository {shlex.quote(str(repository))}"
    return f"release {live} serves on; next: python -m deploy.releases load {number}{where}"


if __name__ == "__main__":
    sys.exit(main())
