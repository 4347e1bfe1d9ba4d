"""`python -m deploy.demo`: play the case study against the running cluster and write build/demo/.

`make demo` runs it after setting up, exporting and starting.
"""

import argparse
import sys
from pathlib import Path

from deploy.local.layout import ROOT, Layout


def main() -> None:
    layout, output = _parse()

    import grpc  # these take seconds to load; --help needs none

    from deploy.demo.demonstration import show

    try:
        show(layout, output)
    except grpc.RpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()} (is the cluster up? `make up`)")


def _parse() -> tuple[Layout, Path]:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="local", help="the running cluster's name")
    parser.add_argument("--port-offset", type=int, default=0, help="the running cluster's port offset")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "demo", help="where to write")
    parser.add_argument("--model-repository", type=Path, default=ROOT / "model_repository", help="where releases lie")
    options = parser.parse_args()
    return Layout(options.name, options.port_offset, options.model_repository.resolve()), options.output.resolve()


if __name__ == "__main__":
    main()
