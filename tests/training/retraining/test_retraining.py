"""A retraining from collected groups: what it makes, what it says, and that it goes on where it stopped."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from contract.feature_schema import FeatureSchema
from contract.wishes import wishes
from tests.training.retraining.shops import STYLES, shown, table
from training.common.errors import ModelError
from training.common.runs import LOCK, BusyError
from training.data.groups import GroupError
from training.data.prepare import decode
from training.data.table import Group, TableError
from training.models.family import FamilyPaths
from training.retraining.plan import Plan, Rules
from training.retraining.retraining import AnotherRun, retrain
from training.retraining.trained_on import FILE, trained_on
from training.wishes.preferences import PreferenceWeights

NEW, ORIGINAL = 48, 24
HOLDER = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def delta(folder: Path, groups: list[Group], schema: FeatureSchema) -> Path:
    """A table as collect writes it: pictures by uri, columns beside those that trainings read."""
    rows = []
    for group in groups:
        candidates = []
        for candidate in group.candidates:
            path = folder.parent / "pictures" / f"{candidate.image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(candidate.image or b"")
            entry = {"image_id": candidate.image_id, "uri": path.as_uri(), "selected": candidate.selected, "release": 1}
            candidates.append(entry)
        rows.append({
            "group_id": group.group_id, "user_id": group.user_id, "prompt": group.prompt,
            "features": json.dumps(dict(group.features)), "candidates": candidates, "origin": "feedback",
            "create_time": group.create_time, "release": 1, "arm": "live",
        })  # fmt: skip
    write_deltalake(str(folder), pa.Table.from_pylist(rows), mode="overwrite")
    schema.write(folder / "feature_schema.json")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, schema: FeatureSchema, root: Path) -> Iterator[Path]:
    """A finished retraining in run/, of a Delta table and an original one."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        delta(home / "groups", list(shown(NEW, "g")), schema)
        table(home / "original", shown(ORIGINAL, "o", seed=1), schema)
        retrain(plan(home, root))
        yield home


def plan(home: Path, root: Path, **changes: Any) -> Plan:
    whole = Plan(home / "groups", home / "original", root, home / "run", ("wishes",), Rules(hold_out=8))
    return replace(whole, **changes)


def sold(folder: Path, units: dict[str, int]) -> Path:
    """LAKE/shop with an order of the picked picture of these groups."""
    picked = {g.group_id: next(c.image_id for c in g.candidates if c.selected) for g in shown(NEW, "g")}
    rows = [
        {"event_id": name, "kind": "order", "group_id": name, "image_id": picked[name], "units": n}
        for name, n in units.items()
    ]
    write_deltalake(str(folder), pa.Table.from_pylist(rows), mode="append")
    return folder


@pytest.fixture
def record(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "run" / "retraining.json").read_text())
    return found


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)  # where build/prepared is


def test_the_family_knows_what_merchants_pick(home: Path, root: Path) -> None:
    made, base = FamilyPaths.under(home / "run" / "family"), FamilyPaths.under(root)
    model = PreferenceWeights.load(made.preferences, base.schema(), base.vocabulary())
    for style, place in STYLES.items():
        (favours,) = model.of(np.array([base.schema().encode({"style": style}).slots]))
        assert wishes(base.vocabulary(), "dress", favours) == [f"{place} backdrop"]
    assert (made.reward / "config.json").read_bytes() == (base.reward / "config.json").read_bytes()
    assert not made.reward.is_symlink()  # a part that is copied over it later leaves the base as it is
    assert made.vocabulary() == base.vocabulary()


def test_the_record_says_what_went_in(home: Path, root: Path, record: dict[str, Any]) -> None:
    assert record["state"] == "finished" and record["reason"] is None and record["part"] is None
    assert (record["table"], record["table_version"]) == (str(home / "groups"), 0)
    assert record["rows"] == NEW and record["held_out"] == 8 and record["arms"] == {"live": NEW - 8}
    assert record["hold_out"]["groups"] == [f"g{n}" for n in range(NEW - 8, NEW)]
    assert record["hold_out"]["from"] == "2026-01-01T00:40:00+00:00"
    mixture = record["mixture"]
    assert mixture["new_groups"] == NEW - 8 and mixture["original_groups"] == ORIGINAL
    assert mixture["original_share"] >= 0.3 and mixture["original_weight"] == 1
    assert record["figures"]["wishes"]["gain"] > 0 and record["seconds"]["wishes"] > 0
    assert json.loads((home / "run" / "family" / "retraining.json").read_text()) == record


def test_the_groups_that_trained_are_kept_beside_the_record_and_no_others(home: Path) -> None:
    learnt = trained_on(home / "run" / "family")
    assert learnt is not None and learnt.group_ids == {f"g{n}" for n in range(NEW - 8)}
    assert learnt == trained_on(home / "run") and learnt.knows("u3") and not learnt.knows("g3")
    assert learnt.until is not None and learnt.until.isoformat() == "2026-01-01T00:39:00+00:00" and learnt.salt
    assert (home / "run" / FILE).read_bytes() == (home / "run" / "family" / FILE).read_bytes()


def test_a_finished_one_is_not_repeated_and_another_is_refused(
    home: Path, root: Path, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    retrain(plan(home, root))
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(AnotherRun, match="its rules is not this one"):
        retrain(plan(home, root, rules=Rules(hold_out=9)))
    assert json.loads((home / "run" / "retraining.json").read_text()) == record


def test_it_goes_on_at_the_version_that_it_began_with_and_ends_in_the_same_bytes(
    home: Path, root: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the last part and the family; meanwhile the table has grown."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    again = plan(home, root, out=home / "again")
    with monkeypatch.context() as patch:
        patch.setattr("training.retraining.retraining.assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            retrain(again)
    assert json.loads((home / "again" / "retraining.json").read_text())["state"] == "interrupted"
    trained = (home / "again" / "wishes" / "preferences" / "preferences.safetensors").stat()
    delta(home / "groups", list(shown(NEW + 4, "g")), schema)
    retrain(again)
    record = json.loads((home / "again" / "retraining.json").read_text())
    assert (record["state"], record["table_version"], record["rows"]) == ("finished", 0, NEW)
    name = "wishes/preferences/preferences.safetensors"
    assert (home / "again" / name).stat().st_mtime_ns == trained.st_mtime_ns
    assert (home / "again" / name).read_bytes() == (home / "run" / name).read_bytes()


def test_only_new_pictures_are_read_and_those_of_an_erased_merchant_are_forgotten(
    home: Path, root: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [group for group in shown(NEW + 10, "g") if group.user_id != "u3"]  # u3 is erased
    delta(home / "groups", groups, schema)
    read = list[object]()
    monkeypatch.setattr("training.retraining.sources.decode", lambda *given: read.append(given) or decode(*given))
    (folder,) = (home / "build" / "prepared").glob("collected-groups-*/tags-*")
    before = sum(len(np.load(path)["keys"]) for path in folder.glob("*.npz"))
    retrain(plan(home, root, out=home / "later"))
    after = sum(len(np.load(path)["keys"]) for path in folder.glob("*.npz"))
    assert before == (NEW - 8) * 3 and len(read) == 10 * 3 and after == before + (10 - 1) * 3


def test_pictures_that_are_not_there_for_now_are_not_forgotten(home: Path, root: Path) -> None:
    (folder,) = (home / "build" / "prepared").glob("collected-groups-*/tags-*")
    before = sum(len(np.load(path)["keys"]) for path in folder.glob("*.npz"))
    (home / "pictures").rename(home / "unmounted")
    try:
        with pytest.raises(GroupError, match=r"have a picture that its uri does not give, more than 10%"):
            retrain(plan(home, root, out=home / "unmounted run"))
    finally:
        (home / "unmounted").rename(home / "pictures")
    assert before and sum(len(np.load(path)["keys"]) for path in folder.glob("*.npz")) == before


def test_a_failure_is_written_down_with_its_reason(home: Path, root: Path, schema: FeatureSchema) -> None:
    with pytest.raises(GroupError):
        retrain(plan(home, root, out=home / "held", rules=Rules(hold_out=10_000)))
    with pytest.raises(TableError):
        retrain(plan(home, root, out=home / "absent", original=home / "nowhere"))
    for name, told in (("held", "would be held out"), ("absent", "nowhere does not exist")):
        record = json.loads((home / name / "retraining.json").read_text())
        assert record["state"] == "failed" and told in record["reason"] and record["ended"]
        assert not (home / name / "family").exists()


def test_an_error_of_any_kind_is_a_failure_and_a_signal_an_interruption(
    home: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, state in ((RuntimeError("out of memory"), "failed"), (SystemExit(143), "interrupted")):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("training.retraining.retraining.choose", fail)
        with pytest.raises(type(error)):
            retrain(plan(home, root, out=home / state))
        assert json.loads((home / state / "retraining.json").read_text())["state"] == state


def test_never_two_at_once_on_one_table(home: Path, root: Path) -> None:
    (folder,) = (home / "build" / "prepared").glob("collected-groups-*")
    command = [sys.executable, "-c", HOLDER, str(folder / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="works in"):
            retrain(plan(home, root, out=home / "second"))
        other.kill()
    assert not (home / "second" / "retraining.json").exists()


def test_orders_count_by_their_weight_at_one_version_and_without_a_weight_nothing_changes(
    home: Path, root: Path, tmp_path: Path
) -> None:
    shop = sold(tmp_path / "shop", {"g1": 30, "g2": 4, f"g{NEW - 1}": 50})  # the last one is held out
    first = home / "groups@0"
    without = retrain(plan(home, root, groups=first, out=tmp_path / "without", shop=shop))
    weights = "preferences.safetensors"
    base = (home / "run" / "family" / "preferences" / weights).read_bytes()
    assert (without.preferences / weights).read_bytes() == base
    assert (without.pipeline.parent / FILE).read_bytes() == (home / "run" / "family" / FILE).read_bytes()
    asked = plan(home, root, groups=first, out=tmp_path / "with", shop=shop, order_weight=1.0)
    made = retrain(asked)
    found = json.loads((tmp_path / "with" / "retraining.json").read_text())
    assert (made.preferences / weights).read_bytes() != base
    assert found["orders"] == {"weight": 1.0, "pictures_sold": 2, "units": 34}
    assert found["inputs"]["orders"] == {"table": f"{shop}@0", "weight": 1.0} and found["mixture"]["new_weight"] > 1
    sold(shop, {"g3": 7})
    assert retrain(asked) == made  # at the version that it began with
    with pytest.raises(AnotherRun, match="its orders is not this one"):
        retrain(replace(asked, order_weight=0.0))


def test_orders_that_are_to_count_need_a_table(home: Path, root: Path) -> None:
    with pytest.raises(ModelError, match="give --shop"):
        plan(home, root, order_weight=1.0)
    with pytest.raises(ModelError, match="weight of orders is -1"):
        plan(home, root, order_weight=-1.0, shop=home)
