"""Columns: what writers choose is accepted, what is wrong is named with what may be meant and what to do."""

import pyarrow as pa
import pytest

from training.data.columns import CANDIDATE, SCHEMA, column_problems


def changed(name: str, kind: pa.DataType | None, new_name: str | None = None) -> pa.Schema:
    """The schema with one column of another type or name, or without it."""
    fields = [(field.name, field.type) for field in SCHEMA]
    kept = [(new_name or n, kind or t) if n == name else (n, t) for n, t in fields if n != name or kind or new_name]
    return pa.schema(kept)


def candidates(**parts: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct(parts))


PARTS = {field.name: field.type for field in CANDIDATE}


@pytest.mark.parametrize(
    "schema",
    [
        changed("create_time", pa.timestamp("ns")),
        changed("create_time", pa.null()),
        changed("release", pa.float64()),  # pandas keeps whole numbers beside nulls so
        changed("release", None),
        changed("origin", None),
        changed("user_id", pa.large_string()),  # pandas 3
        changed("user_id", pa.dictionary(pa.int32(), pa.string())),  # a pandas categorical
        changed("candidates", pa.large_list(CANDIDATE)),
        changed("candidates", candidates(**{n: t for n, t in PARTS.items() if n != "image"})),
        changed("candidates", candidates(**PARTS | {"uri": pa.null()})),
    ],
)
def test_what_writers_choose_is_accepted(schema: pa.Schema) -> None:
    assert list(column_problems(schema, "file")) == []


@pytest.mark.parametrize(
    ("schema", "kind", "remedy"),
    [
        (changed("prompt", None), "no column 'prompt'", "phrases joined by commas"),
        (changed("prompt", None, "Prompts"), "no column 'prompt'", "did you mean 'Prompts'? rename it to 'prompt'"),
        (changed("prompt", None, "caption"), "no column 'prompt'", "did you mean 'caption'?"),
        (changed("user_id", None, "merchant"), "no column 'user_id'", "did you mean 'merchant'?"),
        (changed("user_id", pa.int64()), "user_id is int64, expected string", 'df["user_id"].astype(str)'),
        (changed("features", pa.struct([("style", pa.string())])), "features is struct<style: string>", "json.dumps"),
        (changed("candidates", pa.list_(pa.string())), "candidates is list<", "a list of {image_id, image or uri"),
        (changed("create_time", pa.string()), "create_time is string", "pandas.to_datetime"),
        (changed("candidates", candidates(**PARTS | {"selected": pa.int64()})), "selected is int64", "bool("),
        (changed("candidates", candidates(**PARTS | {"image": pa.string()})), "image is string", "read_bytes"),
        (
            changed("candidates", candidates(image_id=pa.string(), url=pa.string(), picked=pa.bool_())),
            "a candidate has no 'selected'",
            "did you mean 'picked'?",
        ),
        (pa.schema([*SCHEMA, ("prompt", pa.string())]), "more than one column 'prompt'", "rename the others"),
        (
            changed("candidates", candidates(image_id=pa.string(), jpg=pa.binary(), selected=pa.bool_())),
            "a candidate has neither 'image' nor 'uri'",
            "did you mean 'jpg'?",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(schema: pa.Schema, kind: str, remedy: str) -> None:
    found = [problem for problem in column_problems(schema, "file") if problem.weight == "error"]
    [problem] = [problem for problem in found if problem.kind.startswith(kind)]
    assert remedy in problem.remedy


def test_all_is_named_at_once_and_what_is_not_read_is_no_error() -> None:
    schema = pa.schema([("group_id", pa.int64()), ("hero_image_id", pa.string())])
    found = [(problem.weight, problem.kind) for problem in column_problems(schema, "file")]
    assert found == [
        ("error", "group_id is int64, expected string"),
        ("error", "no column 'user_id'"),
        ("error", "no column 'prompt'"),
        ("error", "no column 'features'"),
        ("error", "no column 'candidates'"),
        ("note", "a column that is not read"),
    ]
