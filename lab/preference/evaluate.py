"""How well a reward model predicts picks on the simulated market, against the ceilings.

    python -m lab.preference.evaluate --data build/unseen --model training/weights/tiny

Prints the numbers of `python -m training.reward.evaluate` and, from the truth.parquet beside the table, 95 % intervals
over users, one block per category, and the ceilings: the GAUC of the best possible ranking without the merchant, from
the features alone, and with the whole truth.

share of the ceiling = (GAUC − without the merchant) / (from the features − without the merchant)

The ceiling holds for merchants that no training used. A model can recognise a merchant that it was trained on by the
features and learn the individual part: there the share can pass 1, up to the ceiling `full`.
"""

from training.common.commands import attempt
from training.reward.evaluate import options_of


def main() -> int:
    arguments = options_of(__doc__).parse_args()

    from lab.preference.evaluation import run  # torch takes seconds to load

    return attempt(lambda: run(arguments), "cannot evaluate")


if __name__ == "__main__":
    raise SystemExit(main())
