"""What a load needs, by the times that were measured on one machine: `python -m deploy.capacity --help`.

    python -m deploy.benchmarks.capacity                                measures this machine, and tests the simulation
    python -m deploy.capacity --merchants 55000 --p95 10                the smallest cluster of such machines
    python -m deploy.capacity --merchants 55000 5500000 --json

The busiest hour is simulated, round by round, on ever more machines, until 95 % of the rounds are quick enough and at
most one in a thousand is refused. A machine is what --measured was measured on, services and models together.
"""

import argparse
import json
import sys
from pathlib import Path

from contract.errors import InputError
from deploy.capacity.measured import Measured
from deploy.capacity.planning import Demand, Plan, Prices, plan

MEASURED = Path(__file__).parent / "measured.json"


def main() -> int:
    options = _parse()
    try:
        measured = Measured.read(options.measured)
        demands = [
            Demand(
                merchants, options.rounds_a_day, options.busiest_hour, options.candidates, options.steps, options.p95
            )
            for merchants in options.merchants
        ]
        prices = Prices(options.machine_price, options.gib_price)
        plans = [plan(demand, measured, options.places, prices) for demand in demands]
    except InputError as error:
        print(f"no plan: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(
            json.dumps([vars(demand) | each.to_json() for demand, each in zip(demands, plans, strict=True)], indent=1)
        )
    else:
        print(table(demands, plans, measured))
    return 0


def table(demands: list[Demand], plans: list[Plan], measured: Measured) -> str:
    """For a reader."""
    rows = [
        ("merchants", [f"{each.merchants:,}" for each in demands]),
        ("rounds a second, busiest hour", [f"{each.rounds_a_second:.1f}" for each in demands]),
        (f"machines ({measured.name})", [f"{each.machines:,}" for each in plans]),
        ("GPUs on them", [f"{each.devices:,}" for each in plans]),
        ("load of the busiest, in that hour", [f"{each.load:.0%}" for each in plans]),
        ("latency, median and 95th percentile", [f"{each.p50_s:.2f} s, {each.p95_s:.2f} s" for each in plans]),
        ("rounds refused", [f"{each.refused_share:.2%}" for each in plans]),
        ("generation replicas, two at least", [f"{each.generation_replicas:,}" for each in plans]),
        ("Kafka partitions of each topic", [f"{each.partitions:,}" for each in plans]),
        ("pictures", [f"{each.pictures_gib:,.0f} GiB" for each in plans]),
        ("events, on all brokers", [f"{each.events_gib:,.1f} GiB" for each in plans]),
        ("a month at these prices", [f"{each.price_a_month:,.0f}" for each in plans]),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}" + "".join(f"{value:>22}" for value in values) for name, values in rows)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--merchants", type=int, nargs="+", required=True, help="who design")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="a machine's times (default: 2 cores, no GPU)")
    parser.add_argument("--rounds-a-day", type=float, default=6.0, help="of one merchant (default: %(default)g)")
    parser.add_argument(
        "--busiest-hour", type=float, default=0.12, metavar="SHARE", help="of a day's rounds (default: %(default)g)"
    )
    parser.add_argument("--candidates", type=int, default=5, help="of a round (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="of denoising (default: %(default)s)")
    parser.add_argument("--p95", type=float, default=10.0, metavar="S", help="promised latency (default: %(default)g)")
    parser.add_argument("--places", type=int, default=16, help="rounds in flight of a replica (default: %(default)s)")
    parser.add_argument("--machine-price", type=float, default=250.0, help="a month, an example (default: %(default)g)")
    parser.add_argument("--gib-price", type=float, default=0.02, help="a month, an example (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
