"""The columns of a table of groups, and what is wrong with those of a file.

Knows Arrow's types, and how pandas and others write them; no rows.
"""

from collections.abc import Iterator
from difflib import get_close_matches

import pyarrow as pa

from training.common.errors import ModelError
from training.common.problems import Problem


class TableError(ModelError):
    """This is not a valid table; the message names the file, row and column."""


CANDIDATE = pa.struct([
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image", pa.binary()),
    pa.field("uri", pa.string()),
    pa.field("selected", pa.bool_(), nullable=False),
])  # fmt: skip
SCHEMA = pa.schema([
    pa.field("group_id", pa.string(), nullable=False),
    pa.field("user_id", pa.string(), nullable=False),
    pa.field("prompt", pa.string(), nullable=False),
    pa.field("features", pa.string(), nullable=False),
    pa.field("candidates", pa.list_(CANDIDATE), nullable=False),
    pa.field("origin", pa.string(), nullable=False),
    pa.field("create_time", pa.timestamp("ms", tz="UTC")),
    pa.field("release", pa.int64()),
])  # fmt: skip
OPTIONAL = ("origin", "create_time", "release")  # columns that a file may lack
OPTIONAL_PARTS = ("image", "uri")  # of a candidate; one of them is needed
CHECK = "python -m training.data.check_table"
ALSO_CALLED = {  # other names that people give to columns and parts
    "group_id": ("id", "round_id", "ranking_id", "session_id", "query_id"),
    "user_id": ("merchant", "merchant_id", "user", "customer_id", "shop_id", "seller_id"),
    "prompt": ("caption", "text", "query", "description", "phrases"),
    "features": ("profile", "user_features", "merchant_features", "attributes"),
    "candidates": ("images", "pictures", "items", "options", "shown"),
    "image_id": ("id", "image_uid", "picture_id", "item_id"),
    "image": ("jpg", "png", "bytes", "picture", "content"),
    "uri": ("url", "path", "file", "image_url", "image_path"),
    "selected": ("picked", "chosen", "clicked", "label", "pick", "picks", "is_selected"),
}
REMEDIES = {  # with df, a pandas table, and c, a candidate
    "group_id": 'df["group_id"] = df["group_id"].astype(str)',
    "user_id": 'df["user_id"] = df["user_id"].astype(str)',
    "prompt": "phrases joined by commas, one text a row",
    "features": 'the profile as JSON text: df["features"] = df["features"].map(json.dumps)',
    "candidates": "a list of {image_id, image or uri, selected} in each row",
    "origin": "a text that says where the row is from, or leave the column out",
    "create_time": 'df["create_time"] = pandas.to_datetime(df["create_time"], utc=True), or leave the column out',
    "release": 'df["release"] = df["release"].astype("Int64"), or leave the column out',
    "image_id": 'c["image_id"] = str(c["image_id"])',
    "image": 'the bytes of a PNG or JPEG file: c["image"] = pathlib.Path(path).read_bytes()',
    "uri": "file://… (pathlib.Path.as_uri), or what fsspec reads",
    "selected": 'c["selected"] = bool(c["selected"])',
}


def columns_checked(found: pa.Schema, file: str, table: str) -> None:
    """Refuses columns that no training can read.

    Raises:
        TableError: the first thing that is wrong, and how many more there are.
    """
    wrong = [problem for problem in column_problems(found, file) if problem.weight == "error"]
    if wrong:
        more = f"; {len(wrong) - 1} more: {CHECK} {table}" if wrong[1:] else ""
        raise TableError(f"{wrong[0].where}: {wrong[0].kind} ({wrong[0].remedy}){more}")


def column_problems(found: pa.Schema, file: str) -> Iterator[Problem]:
    """Everything that is wrong with a file's columns; those that no command reads are named as notes."""
    extra = [name for name in found.names if name not in SCHEMA.names]
    for wanted in SCHEMA:
        if found.names.count(wanted.name) > 1:
            yield Problem("error", f"more than one column {wanted.name!r}", file, "keep one, and rename the others")
        elif wanted.name in found.names:
            yield from _type_problems(found.field(wanted.name), wanted, file)
        elif wanted.name not in OPTIONAL:
            yield missing(wanted.name, extra, f"{file}", f"no column {wanted.name!r}")
    for name in extra:
        yield Problem("note", "a column that is not read", file, "none needed", repr(name))


def _type_problems(found: pa.Field, wanted: pa.Field, file: str) -> Iterator[Problem]:
    parts = _parts(found.type) if wanted.name == "candidates" else None
    if parts is None:
        if not fits(found.type, wanted.type):
            yield _of_type(wanted.name, found.type, wanted.type, file)
        return
    extra = [name for name in parts if name not in {part.name for part in CANDIDATE}]
    for part in CANDIDATE:
        if part.name in parts:
            if not fits(parts[part.name], part.type):
                yield _of_type(part.name, parts[part.name], part.type, f"{file}, candidates")
        elif part.name not in OPTIONAL_PARTS:
            yield missing(part.name, extra, f"{file}, candidates", f"a candidate has no {part.name!r}")
    if not parts.keys() & set(OPTIONAL_PARTS):
        yield missing("image", extra, f"{file}, candidates", "a candidate has neither 'image' nor 'uri'")
    for name in extra:
        yield Problem("note", "a part of candidates that is not read", file, "none needed", repr(name))


def missing(name: str, others: list[str], where: str, what: str) -> Problem:
    """A name that is not there, and which of the others may be meant."""
    lower = {other.lower(): other for other in others}
    near = get_close_matches(name, list(lower), 1, 0.7) or [also for also in ALSO_CALLED.get(name, ()) if also in lower]
    meant = f"did you mean {lower[near[0]]!r}? rename it to {name!r}; " if near else ""
    return Problem("error", what, where, meant + REMEDIES.get(name, ""))


def _of_type(name: str, found: pa.DataType, wanted: pa.DataType, where: str) -> Problem:
    expected = "list of candidates" if name == "candidates" else wanted
    return Problem("error", f"{name} is {_short(found)}, expected {expected}", where, REMEDIES[name])


def _short(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 80 else text[:79] + "…"


def _parts(kind: pa.DataType) -> dict[str, pa.DataType] | None:
    """The parts of a list of structs; None: it is none."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return None
    return {part.name: part.type for part in kind.value_type}


def fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal up to what writers choose: widths, dictionaries, units of time, numbers with nulls as floats."""
    kinds = pa.types
    if kinds.is_null(found):
        return not kinds.is_nested(wanted) and not kinds.is_boolean(wanted)
    if kinds.is_dictionary(found):
        return fits(found.value_type, wanted)
    if kinds.is_timestamp(wanted):
        return bool(kinds.is_timestamp(found))
    if kinds.is_string(wanted):
        return any(kind(found) for kind in (kinds.is_string, kinds.is_large_string, kinds.is_string_view))
    if kinds.is_binary(wanted):
        return any(kind(found) for kind in (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view))
    if kinds.is_integer(wanted):
        return bool(kinds.is_integer(found) or kinds.is_floating(found))
    return bool(found == wanted)
