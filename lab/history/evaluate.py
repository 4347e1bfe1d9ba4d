"""What histories are worth: favours after 0, 1, 3, 10, 30 groups of merchants that no training saw, by the truth.

    python -m lab.history.evaluate                       minutes on one core; build/eval/history.json and history.png
    python -m lab.history.evaluate --split validation    other merchants, to choose constants by

Each merchant is served with their own profile, with none, and with another merchant's. Their groups are shown in two
ways: as the market shows them, with values drawn at random, and as the platform serves them, with the wishes of the
favours that it has by then. A phrase of a candidate is drawn or read wrongly with the chance --wrong.
"""

import sys
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.places import TINY


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--split", choices=("unseen", "validation"), default="unseen", help="(default: %(default)s)")
    parser.add_argument("--merchants", type=int, default=120, help="(default: %(default)s)")
    parser.add_argument("--wrong", type=float, default=0.03, help="chance of a wrong phrase (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=TINY, help="the family (default: %(default)s)")
    parser.add_argument("--history", type=Path, help="history.json from elsewhere than in the family's preferences/")
    parser.add_argument("--out", type=Path, default=Path("build/eval/history.json"), help="(default: %(default)s)")
    arguments = parser.parse_args()

    from lab.history.evaluation import run  # torch takes seconds to load

    return attempt(lambda: run(arguments), "cannot evaluate")


if __name__ == "__main__":
    sys.exit(main())
