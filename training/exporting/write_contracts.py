"""Writes the tensor contract for a family of other sizes: a model repository's config.pbtxt files.

    python -m training.exporting.write_contracts --weights build/sd15 --out build/sd15_repository --max-batch 4

Names, types, policies and the comment at the top are those of the repository given by --like; the dimensions follow
from the family's own configurations, those of user, features and phrases padded to the contract's maxima. Then
`python -m training.exporting.export --weights … --repository …` fills it.
"""

import sys
from pathlib import Path

from contract.errors import InputError
from training.common.commands import parser_of


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the family's directory")
    parser.add_argument("--out", type=Path, required=True, help="the new model repository")
    parser.add_argument("--like", type=Path, default=Path("model_repository"), help="(default: %(default)s)")
    parser.add_argument("--max-batch", type=int, help="largest batch of every model, of the text encoder 8 at least")
    parser.add_argument("--instances", type=int, help="of every model; each has its own copy of the weights")
    arguments = parser.parse_args()
    if any(number is not None and number < 1 for number in (arguments.max_batch, arguments.instances)):
        parser.error("--max-batch and --instances are at least 1")

    from training.exporting.family_contracts import write_contracts  # torch takes seconds to load
    from training.exporting.graphs import BUILDERS
    from training.models.family import FamilyPaths, hush_libraries

    hush_libraries()
    try:
        family, limits = FamilyPaths.under(arguments.weights), (arguments.max_batch, arguments.instances)
        write_contracts(family, arguments.like, arguments.out, *limits)
    except (InputError, OSError) as error:
        print(f"no contract written: {error}", file=sys.stderr)
        return 1
    print(f"contracts of {len(BUILDERS)} models written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
