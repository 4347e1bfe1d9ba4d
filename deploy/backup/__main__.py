"""Takes, checks and restores back-ups of a whole platform.

python -m deploy.backup take --out BACKUP                        while it serves; run again, it goes on
python -m deploy.backup verify --from BACKUP                     reads every file against its SHA-256
python -m deploy.backup restore --from BACKUP --erasures FILE    into an empty platform that does not run
python -m deploy.backup drill                                    make restore-drill: proves it, on platforms of its own

A back-up is a folder: databases/, lake/, pictures/, releases/ and backup.json, which names the point and has every
file's hash. All that was acknowledged before the point is in it. Without --places it is the platform of `make up`; with
it, any other, by a JSON file:

  {"databases": {"user_embedding": "postgresql://perfusion_user_embedding_reader:…@HOST/NAME", "generation": …,
                 "feedback": …, "items": …, "studio": …},
   "pictures": "s3://BUCKET/pictures", "releases": "s3://BUCKET/releases", "lake": "s3://BUCKET/lake",
   "kafka": "HOST:9093", "kafka_certificates": "FOLDER of collect's"}

Kafka itself is not copied: `take` has `collect` read it to its end. After a restore Kafka is a new one, so the first
`collect` names it and wants `--accept cluster:ID`. FILE is what `python -m services.erasure --audit FILE` adds to, kept
apart from back-ups: those who were erased since are erased again. Certificates, tokens and Secrets are in no back-up.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from contract.errors import InputError
from deploy.backup.places import BackupError, Places
from deploy.local.layout import ROOT, Layout
from services.runtime.errors import Unavailable


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (InputError, Unavailable, SQLAlchemyError, OSError) as error:
        print(f"{options.command} stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def say(line: str) -> None:
    """One line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def _places(options: argparse.Namespace) -> Places:
    if options.places is not None:
        return Places.of_file(options.places)
    layout = Layout(options.name, options.port_offset, options.model_repository.resolve())
    return Places.of_layout(layout, options.lake.resolve())


def _take(options: argparse.Namespace) -> int:
    from deploy.backup.taking import take  # tables' libraries take a second

    record = take(_places(options), options.out, say, options.feature_schema)
    total = sum(of["bytes"] for of in record.files.values())
    print(f"{options.out}: point {record.began}, {len(record.files)} files, {total / 2**20:.1f} MiB")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from deploy.backup.record import Record

    record = Record.read(options.source)
    if record is None:
        raise BackupError(f"{options.source} holds no back-up")
    record.verify(options.source)
    print(f"{options.source}: whole, point {record.began}, {len(record.files)} files")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from deploy.backup.restoring import restore

    print(json.dumps(restore(options.source, _places(options), options.erasures, say)))
    return 0


def _drill(options: argparse.Namespace) -> int:
    from deploy.backup.drill import drill

    found = drill(options.work.resolve(), options.name, options.port_offset, options.groups, say)
    print(json.dumps(found, indent=1))
    return 0 if found["passed"] else 1


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "take": _take,
    "verify": _verify,
    "restore": _restore,
    "drill": _drill,
}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m deploy.backup", description=__doc__, formatter_class=shown)
    commands = parser.add_subparsers(dest="command", required=True)
    take = commands.add_parser("take", help="copy everything, to one point, while the platform serves")
    take.add_argument("--out", type=Path, required=True, metavar="BACKUP", help="a new folder, or one to go on with")
    take.add_argument("--feature-schema", type=Path, metavar="FILE", help="for a lake that does not exist yet")
    verify = commands.add_parser("verify", help="read every file against its hash")
    restore = commands.add_parser("restore", help="into an empty platform that does not run")
    restore.add_argument("--erasures", type=Path, metavar="FILE", help="what services.erasure --audit wrote")
    for each in (verify, restore):
        each.add_argument("--from", dest="source", type=Path, required=True, metavar="BACKUP", help="the folder")
    for each in (take, restore):
        each.add_argument("--places", type=Path, metavar="FILE", help="JSON: where a platform keeps everything")
        each.add_argument("--name", default="local", help="else: the platform on this machine (default: %(default)s)")
        each.add_argument("--port-offset", type=int, default=0, help="of its ports (default: %(default)s)")
        repository = ROOT / "model_repository"
        each.add_argument("--model-repository", type=Path, default=repository, help="where its releases lie")
        each.add_argument("--lake", type=Path, default=ROOT / "build" / "lake", help="(default: build/lake)")
    drill = commands.add_parser("drill", help="back up under traffic, lose everything, restore, and prove it")
    drill.add_argument("--name", default="restore-drill", help="of the platforms (default: %(default)s)")
    drill.add_argument("--work", type=Path, default=ROOT / "build" / "restore-drill", help="(default: %(default)s)")
    drill.add_argument("--port-offset", type=int, default=500, help="of the platforms' ports (default: %(default)s)")
    drill.add_argument("--groups", type=int, default=30, help="picked before the back-up (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
