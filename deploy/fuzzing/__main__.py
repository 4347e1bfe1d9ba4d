"""Sends malformed requests to every method of a platform of its own: make fuzz.

python -m deploy.fuzzing --requests 10000 --seed 1

The requests are made from the descriptors of the API, so a new method or field is among them. What is written: how
often each status came, by method; each fault of ours (INTERNAL, UNKNOWN, DATA_LOSS) with its bytes; the memory of each
service before and after; whether health still says what it said. Exits with 1 where anything of this is wrong.
"""

import argparse
import json
import sys
from pathlib import Path

from contract.errors import InputError
from contract.repository import write_durably
from deploy.fuzzing.sending import fuzz
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout


def main() -> int:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m deploy.fuzzing", description=__doc__, formatter_class=shown)
    parser.add_argument("--requests", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same one sends the same (default: %(default)s)")
    parser.add_argument("--name", default="fuzz", help="the platform's (default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=600, help="of its ports (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "fuzz" / "report.json", help="(default: %(default)s)"
    )
    options = parser.parse_args()
    layout = Layout(options.name, options.port_offset)
    cluster = Cluster(layout, say=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        cluster.up()
        found = fuzz(layout, options.requests, options.seed)
    except (ClusterError, InputError) as error:
        print(f"fuzzing stopped: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    write_durably(options.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("requests", "codes", "grown_mb", "health_changed", "passed")}))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
