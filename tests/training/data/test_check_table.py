"""check_table on dirty tables: everything is listed with row, id, column and remedy, and nothing is a traceback."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contract.feature_schema import Feature, FeatureSchema
from training.data.check_table import main
from training.models.family import FamilyPaths

Check = Callable[..., tuple[int, str]]


def png(grey: int, side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def shown(name: str, selected: bool = False, **where: object) -> dict[str, Any]:
    return {"image_id": name, "selected": selected, "image": None, "uri": None} | (where or {"image": png(len(name))})


def row(name: str, **changes: object) -> dict[str, Any]:
    candidates = [shown("a", True), shown("bb")]
    whole = {"group_id": name, "user_id": "u", "prompt": "dress", "features": "{}", "candidates": candidates}
    return whole | changes


@pytest.fixture
def check(
    tmp_path: Path,
    family: FamilyPaths,
    schema: FeatureSchema,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Check:
    """The command's exit status and output for these rows, in a folder with a space and an umlaut."""

    def run(rows: list[dict[str, Any]], *options: str) -> tuple[int, str]:
        table = tmp_path / "my tàble"
        table.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), table / "groups-00000.parquet")
        schema.write(table / "feature_schema.json")
        weights = str(family.reward.parent)
        monkeypatch.setattr(sys, "argv", ["check_table", str(table), "--weights", weights, *options])
        return main(), capsys.readouterr().out

    return run


def test_a_clean_table_has_nothing(check: Check) -> None:
    full = '{"style": "luxury", "audience": ["teen"], "years_open": 2}'
    code, told = check([row("g1"), row("g2", features=full, origin="shop", release=None)])
    assert code == 0 and told.splitlines()[0].endswith("my tàble: 2 groups; 0 to be mended, 0 left out, 0 to know")


@pytest.mark.parametrize(
    ("dirty", "kind", "place"),
    [
        (row("g2", user_id=None), "a value is out of form", "row 1, group 'g2', user_id: is null"),
        (row("g2", features="[1]"), "a value is out of form", "row 1, group 'g2', features: is not a JSON object"),
        (row("g2", features="{"), "a value is out of form", "row 1, group 'g2', features: is not JSON"),
        (row("g2", features="[" * 9_999), "a value is out of form", "row 1, group 'g2', features: is not JSON"),
        (row("g2", candidates=None), "a value is out of form", "row 1, group 'g2', candidates: is null"),
        (row("g2", candidates=[shown("a"), None]), "a value is out of form", "group 'g2', candidates[1]: is null"),
        (row("g1"), "a group_id is there twice", "row 1, group 'g1': the same as"),
        (row("g2", candidates=[]), "fewer than two candidates", "row 1, group 'g2': 0"),
        (row("g2", prompt=" "), "an empty prompt", "row 1, group 'g2'"),
        (
            row("g2", candidates=[shown("a", True, uri="file:///no/such.png"), shown("b")]),
            "a picture that its uri does not give",
            "row 1, group 'g2', candidates[0] 'a': file:///no/such.png: FileNotFoundError",
        ),
        (
            row("g2", candidates=[shown("a", True), shown("b", image=png(1)[:50])]),
            "a picture that cannot be decoded",
            "row 1, group 'g2', candidates[1] 'b'",
        ),
        (
            row("g2", candidates=[shown("a", True), shown("b", image=None)]),
            "a candidate with neither image nor uri",
            "row 1, group 'g2', candidates[1] 'b'",
        ),
    ],
)
def test_what_a_training_could_not_use_is_listed_by_row_and_id(
    check: Check, dirty: dict[str, Any], kind: str, place: str
) -> None:
    code, told = check([row("g1"), dirty])
    lines = told.splitlines()
    assert code == 1 and f"  {kind}, 1 time" in lines
    at = lines.index(f"  {kind}, 1 time")
    assert lines[at + 1].startswith("    remedy: ") and place in lines[at + 2]


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (row("g2", features='{"shoe_size": 9}'), "the schema has no feature 'shoe_size'"),
        (row("g2", features='{"style": "baroque"}'), "feature 'style': something is unknown"),
        (row("g2", features='{"style": {"a": 1}}'), "feature 'style': something is unknown"),
        (row("g2", features='{"audience": ["teen", "office", "party"]}'), "feature 'audience': something is unknown"),
        (row("g2", prompt=",".join(f"dress {n}" for n in range(99))), "a prompt is longer than a model reads"),
        (row("g2", candidates=[shown("a"), shown("b")]), "no candidate is selected"),
        (row("g2", candidates=[shown("a", True), shown("b", True)]), "all candidates are selected"),
        (row("g2", candidates=[shown("a", True), shown("a")]), "a group shows one image_id twice"),
        (row("g2", candidates=[shown("a", True, image=png(1, 5)), shown("b")]), "a picture is small"),
        (row("g2", hero_image_id="x"), "a column that is not read"),
    ],
)
def test_what_a_training_can_use_is_counted_and_no_error(check: Check, odd: dict[str, Any], kind: str) -> None:
    code, told = check([odd, row("g1")])
    assert code == 0 and f"  {kind}, 1 time" in told.splitlines()
    assert "0 to be mended, 0 left out, " in told.splitlines()[-1]


def test_a_table_of_another_schema_than_the_family_is_named_by_its_first_feature(
    check: Check,
    schema: FeatureSchema,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "my family"
    own.mkdir()
    FeatureSchema((*schema.features, Feature("channel", "categorical", ("app", "web")))).write(
        own / "feature_schema.json"
    )
    code, told = check([row("g1")], "--weights", str(own))
    assert code == 1 and "the table has another feature schema than the family, 1 time" in told
    assert "my tàble: the feature 'channel' is missing" in told
    for content, what in (
        ("{", "the family's feature schema cannot be used"),
        (None, "has no feature schema to compare"),
    ):
        (own / "feature_schema.json").unlink()
        if content:
            (own / "feature_schema.json").write_text(content)
        monkeypatch.setattr(sys, "argv", ["check_table", str(tmp_path / "my tàble"), "--weights", str(own)])
        assert main() == (1 if content else 0) and what in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["check_table", str(tmp_path / "my tàble")])
    assert main() == 0, "without a family, schemas are not compared"
    monkeypatch.setattr(
        sys, "argv", ["check_table", str(tmp_path / "my tàble"), "--weights", str(tmp_path / "nowhere")]
    )
    assert main() == 1 and "nowhere is no folder of a family" in capsys.readouterr().err


def test_tokenizers_that_cannot_judge_prompts_are_told(check: Check, tmp_path: Path, schema: FeatureSchema) -> None:
    own = tmp_path / "my family"
    (own / "pipeline/tokenizer").mkdir(parents=True)
    (own / "pipeline/tokenizer/tokenizer.json").write_text('{"model": 1}')
    (own / "reward").mkdir()
    (own / "reward/vocab.json").write_text("{}")
    schema.write(own / "feature_schema.json")
    code, told = check([row("g1")], "--weights", str(own))
    assert code == 1 and "a tokenizer cannot be read, 1 time" in told
    assert "lengths of prompts are not judged, 1 time" in told


def test_many_of_a_kind_are_counted_and_a_few_shown(check: Check) -> None:
    code, told = check([row(f"g{n}", prompt="") for n in range(30)], "--examples", "3", "--no-pictures")
    assert code == 1 and "  an empty prompt, 30 times" in told and "    … and 27 more" in told
    assert told.count("group 'g") == 3


def test_wrong_columns_keep_no_other_file_from_being_read(
    tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"id": 1, "caption": "dress"} | {k: v for k, v in row("g1").items() if k not in ("group_id", "prompt")}
    pq.write_table(pa.Table.from_pylist([wrong]), tmp_path / "groups-0.parquet")
    pq.write_table(pa.Table.from_pylist([row("g1", prompt="")]), tmp_path / "groups-1.parquet")
    (tmp_path / "groups-2.parquet").write_bytes(b"PAR1 not really")
    monkeypatch.setattr(sys, "argv", ["check_table", str(tmp_path), str(tmp_path / "nowhere")])
    assert main() == 1
    told = capsys.readouterr().out
    assert "no column 'group_id', 1 time" in told and "did you mean 'id'?" in told
    assert "no column 'prompt', 1 time" in told and "did you mean 'caption'?" in told
    assert "an empty prompt, 1 time" in told  # of the second file
    assert "groups-2.parquet is not Parquet" in told
    assert "there is no feature schema, 1 time" in told  # beside all of them
    assert "there is no table, 1 time" in told  # the other folder


def test_a_schema_that_cannot_be_used_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.Table.from_pylist([row("g1")]), tmp_path / "groups-0.parquet")
    for content in ("{", "[]", json.dumps({"version": 1, "features": []})):
        (tmp_path / "feature_schema.json").write_text(content)
        monkeypatch.setattr(sys, "argv", ["check_table", str(tmp_path), "--no-pictures"])
        assert main() == 1
        assert "the feature schema cannot be used, 1 time" in capsys.readouterr().out
