"""`python -m deploy.demo.trace`: a round on the running platform as a trace, from the client to the tables, drawn.

    PERFUSION_TRACES_TO=file://build/local/traces PERFUSION_TRACES_SHARE=1 make up
    python -m deploy.demo.trace --play --out docs/pictures/trace.png
    python -m deploy.demo.trace --trace 4bf92f3577b34da6a3ce929d0e0e4736 --out trace.png

The platform must have been started so that it writes spans into that folder. With `--play` a client asks for a group,
picks from it, and collects both events into a lake of its own, all in one trace; it is drawn then. Without, a trace is
drawn that is there: the one that is named, else the largest.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
from opentelemetry.trace import SpanKind

from contract import tracing
from contract.spans import SHARE, TO, Recording, exporter_to
from deploy.demo.playing import play, put_profile, submit_pick
from deploy.local.authority import Authority
from deploy.local.clients import connect
from deploy.local.kafka_broker import COLLECTOR
from deploy.local.layout import ROOT, Layout, clean_environment, venv
from lab.market.merchants import case_study

PROMPT = "dress,v-neck,slim-fit,long sleeves"
WRITTEN_S = 3.0  # until a service has written the spans that have ended
COLLECT_LIMIT_S = 300.0


def main() -> int:
    options = _parse()

    from deploy.demo.waterfall import NoTrace, draw, read_spans, trace_of  # matplotlib takes a second

    layout = Layout(options.name, options.port_offset, options.model_repository.resolve())
    folder = layout.home / "traces"
    try:
        trace = played(layout, folder) if options.play else options.trace
        draw(trace_of(list(read_spans(folder)), trace, folder), options.out)
    except grpc.RpcError as error:
        print(f"error: {error.code().name}: {error.details()} (is the cluster up? `make up`)", file=sys.stderr)
        return 1
    except (NoTrace, subprocess.CalledProcessError) as error:
        print(f"error: {error} (was the cluster started with {TO}=file://{folder}?)", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0


def played(layout: Layout, folder: Path) -> str:
    """A round, its pick, and the commit of both; returns the trace's id."""
    merchant = case_study()[0]
    recording = Recording("client", exporter_to(f"file://{folder}", "client"), 1.0)
    try:
        with connect(layout) as clients:
            put_profile(clients, merchant)
            play(clients, merchant, PROMPT, seed=0)  # so that the trace is of a warm platform
            collect(layout, folder)  # what comes after is the trace's alone
            with tracing.entry("a merchant's round", kind=SpanKind.CLIENT):
                trace = tracing.trace_id()
                submit_pick(clients, play(clients, merchant, PROMPT, seed=1), picked=0)
    finally:
        recording.close()
    collect(layout, folder)
    time.sleep(WRITTEN_S)
    return trace


def collect(layout: Layout, folder: Path) -> None:
    """What Kafka holds and the trace's own lake does not."""
    schema = layout.model_repository / "releases" / str(layout.release()) / "feature_schema.json"
    command = [str(venv("") / "bin" / "python"), "-m", "training.retraining.collect", "--once"]
    command += ["--kafka", layout.address("kafka"), "--lake", str(folder / "lake"), "--feature-schema", str(schema)]
    command += ["--kafka-certificates", str(Authority(layout.home).folder(COLLECTOR))]
    path = os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")])
    told = clean_environment() | {"PYTHONPATH": path, TO: f"file://{folder}", SHARE: "1"}
    subprocess.run(command, cwd=ROOT, env=told, check=True, timeout=COLLECT_LIMIT_S)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo.trace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", default="local", help="the running cluster's name")
    parser.add_argument("--port-offset", type=int, default=0, help="the running cluster's port offset")
    parser.add_argument("--model-repository", type=Path, default=ROOT / "model_repository", help="where releases lie")
    parser.add_argument("--out", type=Path, required=True, help="the picture (PNG)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--play", action="store_true", help="play a round first, and draw it")
    which.add_argument("--trace", metavar="ID", help="draw this one, as the log and the answer name it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
