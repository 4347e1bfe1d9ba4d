"""Collects what merchants picked and the shop saw: Kafka's groups, picks and events of the shop into tables.

    python -m training.retraining.collect --kafka HOST:9092 --lake LAKE --feature-schema FAMILY/feature_schema.json
    python -m training.retraining.collect --kafka HOST:9092 --lake s3://bucket/lake --once
    python -m training.retraining.collect --kafka HOST:9092 --lake LAKE --status

Kafka tells by a certificate who reads: --kafka-certificates FOLDER. Without one, in clear text, it is on this machine.

LAKE/events has every group's and pick's event once, LAKE/groups every group with its counting pick
(training.retraining.joining says which columns it has beside those of every table), LAKE/shop every impression, click,
order and return once, as training.measurement.lift reads them. It runs until it is stopped, by SIGTERM or Ctrl-C,
between two batches; with `--once` it ends where Kafka's topics ended when it began. It may be killed at any moment,
started again anywhere, and run twice by mistake: the tables hold the offsets, and each event lands once. One line is
printed for each batch.

Where the variable PERFUSION_TRACES_TO says where spans go, as it says to the services, each batch has one: in the
trace of its events, with the tables' versions.

Records that are no events, and picks that do not fit their group, go to Kafka's topic of dead letters, each with its
origin and the reason. `--replay` takes these again, after the code that could not read them was mended.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from contract.kafka_access import VARIABLE, KafkaAccess
from training.common.commands import attempt, parser_of
from training.common.traces import recorded

LEAST_BATCH = 1


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="brokers, joined by commas")
    folder = f"tls.crt, tls.key and ca.crt, for Kafka (default: ${VARIABLE}; without, clear text)"
    parser.add_argument(
        "--kafka-certificates", type=Path, default=os.environ.get(VARIABLE) or None, metavar="FOLDER", help=folder
    )
    parser.add_argument("--lake", required=True, help="the folder, or s3://…, of the tables; made if it is not there")
    schema = "the profiles' features, kept beside LAKE/groups; needed the first time, and when features change"
    parser.add_argument("--feature-schema", type=Path, metavar="FILE", help=schema)
    parser.add_argument("--once", action="store_true", help="end where the topics end now")
    parser.add_argument("--replay", action="store_true", help="take dead letters again, and end")
    parser.add_argument("--status", action="store_true", help="print offsets, lag and what waits, and end")
    parser.add_argument("--json", action="store_true", help="with --status: as JSON")
    parser.add_argument("--batch", type=int, default=20_000, help="most records in a commit (default: %(default)s)")
    pause = "longest time that a record waits for its commit (default: %(default)s)"
    parser.add_argument("--batch-seconds", type=float, default=10.0, metavar="S", help=pause)
    accept = "a loss of events that a refusal named; may be given again"
    parser.add_argument("--accept", action="append", default=[], metavar="LOSS", help=accept)
    arguments = parser.parse_args()
    if arguments.batch < LEAST_BATCH or arguments.batch_seconds < 0:
        parser.error("--batch is at least 1, --batch-seconds at least 0")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Loads the libraries of tables, then does what is asked for."""
    from training.retraining.following import Limits, follow, replay  # deltalake and pyarrow take a second
    from training.retraining.lake import Lake
    from training.retraining.status import status

    lake, kafka = Lake(arguments.lake), KafkaAccess(arguments.kafka, arguments.kafka_certificates)
    if arguments.status:
        print(status(lake, kafka, json=arguments.json))
        return
    lake.set_feature_schema(arguments.feature_schema)
    if arguments.replay:
        replay(lake, kafka)
        return
    limits = Limits(arguments.batch, arguments.batch_seconds, arguments.once)
    with recorded("collect"):
        follow(lake, kafka, limits, arguments.accept)


def main() -> int:
    return attempt(partial(run, parse_arguments()), "collecting stopped")


if __name__ == "__main__":
    sys.exit(main())
