"""Lists everything that is wrong with tables of groups, before any training: each row, column and remedy.

    python -m training.data.check_table build/clothes
    python -m training.data.check_table train test --weights FAMILY --no-pictures

A table is a folder of `groups-*.parquet` with `feature_schema.json` beside them, or a Delta table, of which TABLE@12
is version 12 (training.data.table says what each column is). Three kinds of findings, each counted, with its first
examples:

    to be mended   no training starts: columns, types, nulls, features that are not a JSON object, no schema
    left out       a training goes on without these groups: pictures, duplicates, fewer than two candidates, no prompt
    to know        no error: columns that nothing reads, values that the schema lacks, prompts that are too long

The exit status is 1 if anything is to be mended or left out. `--weights` is the family whose tokenizers read the
prompts, whose pictures' sizes are wanted, and whose feature schema must be the table's; without it the tiny family
reads, and no schemas are compared. Every picture is opened unless `--no-pictures` is given.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from contract.errors import InputError
from contract.feature_schema import FeatureSchema
from contract.picture_files import PictureRefused, picture_file
from contract.pictures import square
from contract.tokens import PromptTokenizer
from training.common.commands import parser_of
from training.common.places import TINY
from training.common.problems import Findings, Problem
from training.data.columns import column_problems
from training.data.delta import DeltaName, delta_columns, delta_name, delta_rows
from training.data.pictures import Pictures, Unreachable
from training.data.table import (
    TableError,
    columns_of,
    features_of,
    read_schema,
    row_problems,
    rows_of,
    why_no_table,
)

EXAMPLES = 5  # of each kind
_THUMBNAIL_PX = 8  # decoding is the test, its result is not used
SCHEMA_REMEDY = (
    "write one with contract.feature_schema.FeatureSchema.write, or see training/weights/tiny/feature_schema.json"
)


class Reader:
    """What the prompts and pictures of a table are read with: a family's tokenizer and sizes, as far as it has them.

    `weights` is the family that is to be trained with the table; None: the tiny family reads, whose schema is its own.
    """

    def __init__(self, weights: Path | None, pictures: bool) -> None:
        self.pictures, self.family = Pictures() if pictures else None, weights
        weights = weights or TINY
        self.tokenizers, self.problems = dict[str, PromptTokenizer](), list[Problem]()
        for part in ("pipeline/tokenizer", "reward/tokenizer", "reward"):
            path = weights / part / "tokenizer.json"
            try:
                if path.is_file():
                    self.tokenizers[part] = PromptTokenizer(path.read_text(encoding="utf-8"), _tokens_of(path))
                elif path.with_name("vocab.json").is_file():
                    remedy = "write its tokenizer.json: CLIPTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                    self.problems.append(Problem("note", "lengths of prompts are not judged", str(path.parent), remedy))
            except Exception as error:  # the library raises no narrower one
                told = Problem("error", "a tokenizer cannot be read", str(path), "copy it again", str(error))
                self.problems.append(told)
        sizes = (_setting(weights / "pipeline/vae/config.json", "sample_size"), *_image_size(weights))
        self.size_px = max((size for size in sizes if size), default=0)


def check_table(table: Path, reader: Reader, findings: Findings) -> int:
    """Adds everything that is wrong with a table to the findings; returns how many groups it has."""
    findings.add(reader.problems)
    if name := delta_name(table):
        return _check_delta(table, name, reader, findings)
    schema, paths = None, sorted(table.glob("groups-*.parquet"))
    if why := why_no_table(table):
        kind = "there is no table" if not paths else "there is no feature schema"
        remedy = SCHEMA_REMEDY if paths else "give the folder of a table, or write one"
        findings.add([Problem("error", kind, str(table), remedy, why)])
    if (table / "feature_schema.json").is_file():
        schema = _schema_of(table, reader, findings)
    groups, seen = 0, dict[str, str]()
    for path in paths:
        where = f"{table.name}/{path.name}"
        rows = partial(rows_of, path, reader.pictures is not None)
        groups += _check_rows(partial(columns_of, path), rows, where, seen, schema, reader, findings)
    if paths and not groups and not findings.total("error"):
        findings.add([Problem("error", "the table is empty", str(table), "write groups into it")])
    return groups


def _check_delta(table: Path, name: DeltaName, reader: Reader, findings: Findings) -> int:
    if why := why_no_table(table):
        remedy = "name a version that is there, and put feature_schema.json beside the table"
        findings.add([Problem("error", "there is no table", str(table), remedy, why)])
        return 0
    schema = _schema_of(table, reader, findings)
    rows = partial(delta_rows, name, reader.pictures is not None)
    groups = _check_rows(partial(delta_columns, name), rows, str(name), {}, schema, reader, findings)
    if not groups and not findings.total("error"):
        findings.add([Problem("error", "the table is empty", str(table), "write groups into it")])
    return groups


def _schema_of(table: Path, reader: Reader, findings: Findings) -> FeatureSchema | None:
    """The table's, compared with the family's."""
    try:
        schema = read_schema(table)
    except InputError as error:
        findings.add([Problem("error", "the feature schema cannot be used", str(table), SCHEMA_REMEDY, str(error))])
        return None
    findings.add(_of_schema(schema, table, reader.family))
    return schema


def _of_schema(schema: FeatureSchema, table: Path, family: Path | None) -> Iterator[Problem]:
    if family is None:
        return
    path = family / "feature_schema.json"
    if not path.is_file():
        remedy = f"python -m training.models.check_family {family} tells what a family lacks"
        yield Problem("note", "the family has no feature schema to compare with", str(family), remedy)
        return
    try:
        differs = FeatureSchema.read(path).difference(schema)
    except InputError as error:
        yield Problem("error", "the family's feature schema cannot be used", str(path), SCHEMA_REMEDY, str(error))
        return
    if differs:
        remedy = f"make both files the same (the table's or {path}), and train what reads profiles on it"
        yield Problem("error", "the table has another feature schema than the family", str(table), remedy, differs)


def _check_rows(
    columns: Callable[[], pa.Schema], rows: Callable[[], Iterable[dict[str, Any]]], where: str,
    seen: dict[str, str], schema: FeatureSchema | None, reader: Reader, findings: Findings,
) -> int:  # fmt: skip
    """Adds what is wrong with one file, or with a Delta table; returns how many groups it has."""
    groups = 0
    try:
        problems = list(column_problems(columns(), where))
        findings.add(problems)
        if any(problem.weight == "error" for problem in problems):
            return groups  # its rows cannot be read
        for number, row in enumerate(rows()):
            groups += 1
            findings.add(_of_row(row, f"{where}, row {number}", seen, schema, reader))
    except TableError as error:
        findings.add([Problem("error", "a file cannot be read", where, "write it again", str(error))])
    return groups


def _of_row(
    row: dict[str, Any], where: str, seen: dict[str, str], schema: FeatureSchema | None, reader: Reader
) -> Iterator[Problem]:
    where = f"{where}, group {row['group_id']!r}"
    malformed = row_problems(row)
    for column, what in malformed:
        remedy = _FORM_REMEDIES.get(what, "mend the value, or drop the row")
        yield Problem("error", "a value is out of form", f"{where}, {column}", remedy, what)
    if malformed:
        return
    if row["group_id"] in seen:
        first = f"the same as {seen[row['group_id']]}"
        yield Problem("left out", "a group_id is there twice", where, "give each group an id of its own", first)
    seen.setdefault(row["group_id"], where)
    yield from _of_group(row, where, reader)
    if schema is not None:
        yield from _of_profile(features_of(row["features"]), where, schema)


_FORM_REMEDIES = {
    "is null": "fill it in, or drop the row",
    "is not a JSON object": 'a profile is an object such as {"style": "luxury"}: json.dumps of a dict',
}


def _of_group(row: dict[str, Any], where: str, reader: Reader) -> Iterator[Problem]:
    candidates = row["candidates"]
    if len(candidates) < 2:
        yield Problem(
            "left out", "fewer than two candidates", where, "a group shows at least two", f"{len(candidates)}"
        )
    if not row["prompt"].strip():
        yield Problem("left out", "an empty prompt", where, "say what was asked for, or drop the row")
    elif longer := [name for name, tokenizer in reader.tokenizers.items() if not tokenizer.holds(row["prompt"])]:
        what = f"phrases are left out for {' and '.join(longer)}"
        yield Problem("note", "a prompt is longer than a model reads", where, "shorten it if its end matters", what)
    picked = {candidate["selected"] for candidate in candidates}
    if picked == {False}:
        yield Problem("note", "no candidate is selected", where, "such a group teaches nothing")
    if picked == {True}:
        yield Problem("note", "all candidates are selected", where, "such a group teaches only models that know ties")
    ids = [candidate["image_id"] for candidate in candidates]
    if len(set(ids)) < len(ids):
        yield Problem("note", "a group shows one image_id twice", where, "candidates should differ")
    for place, candidate in enumerate(candidates):
        yield from _of_picture(candidate, f"{where}, candidates[{place}] {candidate['image_id']!r}", reader)


def _of_picture(candidate: dict[str, Any], where: str, reader: Reader) -> Iterator[Problem]:
    image, uri = candidate.get("image"), candidate.get("uri")
    if reader.pictures is None:
        return
    if image is None and uri is None:
        yield Problem("left out", "a candidate with neither image nor uri", where, "give one of them")
        return
    try:
        content = image if image is not None else reader.pictures.read(str(uri))
    except Unreachable as error:
        remedy = "check the path, the network and the credentials; the next run tries again"
        yield Problem("left out", "a picture that its uri does not give", where, remedy, f"{uri}: {error}")
        return
    try:
        file = picture_file(content)
        square(file, _THUMBNAIL_PX)
    except PictureRefused as refused:
        yield Problem("left out", "a picture that cannot be decoded", where, "give a whole PNG or JPEG", str(refused))
        return
    if min(file.width, file.height) < reader.size_px:
        what = f"{file.width}×{file.height}, the family reads {reader.size_px}×{reader.size_px}"
        yield Problem("note", "a picture is small", where, "it is enlarged; give a larger one if there is one", what)


def _of_profile(profile: dict[str, Any], where: str, schema: FeatureSchema) -> Iterator[Problem]:
    features = {feature.name: feature for feature in schema.features}
    for name in schema.encode(profile).unknown:
        if name not in features:
            remedy = f"left out; add it to feature_schema.json, or rename it (known are {', '.join(features)})"
            yield Problem("note", f"the schema has no feature {name!r}", where, remedy)
        else:
            what = str(features[name].problem(profile[name]))
            yield Problem("note", f"feature {name!r}: something is unknown", where, "read as unknown", what)


def _setting(path: Path, *keys: str) -> int:
    """A number in a JSON file; 0 where it is absent."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return found if isinstance(found, int) else 0


def _image_size(weights: Path) -> tuple[int]:
    return (_setting(weights / "reward/config.json", "vision_config", "image_size"),)


def _tokens_of(path: Path) -> int:
    """How many ids a family's models read."""
    return _setting(path.with_name("tokenizer_config.json"), "model_max_length") or 77


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        "tables", nargs="+", type=Path, metavar="TABLE", help="folders of groups-*.parquet, or Delta tables"
    )
    of = "family to be trained with the table (without it, the tiny family reads, and no feature schemas are compared)"
    parser.add_argument("--weights", type=Path, help=of)
    parser.add_argument("--no-pictures", action="store_true", help="do not open the pictures")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each kind (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if arguments.weights and not arguments.weights.is_dir():
        print(f"cannot check: {arguments.weights} is no folder of a family", file=sys.stderr)
        return 1
    reader, failed = Reader(arguments.weights, not arguments.no_pictures), False
    for table in arguments.tables:
        findings = Findings(arguments.examples)
        groups = check_table(table, reader, findings)
        print("\n".join([*findings.lines(), f"{table}: {groups} groups; {findings.summary()}"]))
        failed |= findings.total("error", "left out") > 0
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
