"""What may train: original data keep their share, no merchant floods, the newest groups wait for the gate."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from training.data.groups import GroupError
from training.data.table import Candidate, Group
from training.retraining.mixture import arms_of, choose, flood_text, mix
from training.retraining.plan import Rules
from training.retraining.traffic_gate import hashed

START = datetime(2026, 1, 1, tzinfo=UTC)


def group(n: int, user: str = "", picked: Sequence[int] = (0,)) -> Group:
    candidates = tuple(Candidate(f"{n}-{at}", at in picked, uri=f"{n}-{at}.png") for at in range(3))
    return Group(f"g{n}", user or f"u{n}", "dress", candidates, create_time=START + timedelta(minutes=n))


def groups(count: int, first: int = 0) -> list[Group]:
    return [group(first + n) for n in range(count)]


@pytest.mark.parametrize(("hold_out", "held"), [(0, 0), (0.1, 5), (7, 7), (0.999, 49)])
def test_the_newest_groups_are_held_out(hold_out: float, held: int) -> None:
    chosen = choose(groups(50), Rules(hold_out=hold_out))
    assert [g.group_id for g in chosen.training] == [f"g{n}" for n in range(50 - held)]
    assert [g.group_id for g in chosen.held_out] == [f"g{n}" for n in range(50 - held, 50)]
    assert chosen.since == (START + timedelta(minutes=50 - held) if held else None)


def test_all_groups_cannot_be_held_out() -> None:
    with pytest.raises(GroupError, match="50 of 50 collected groups would be held out"):
        choose(groups(50), Rules(hold_out=50))


def test_a_flooding_merchant_counts_with_a_share_of_any_time() -> None:
    many = [group(n, "flood" if n % 2 else "") for n in range(400)]
    chosen = choose(many, Rules(hold_out=0))
    kept = [g for g in chosen.training if g.user_id == "flood"]
    assert chosen.surplus == {"flood": 150} and len(kept) == 50 and len(chosen.training) == 250
    assert kept == [g for g in many if g.user_id == "flood"][:50]  # what came first stays
    told = f"1 merchants have too many groups within a short time: {hashed('flood')} (150 too many)"
    assert flood_text(chosen.surplus) == told
    with pytest.raises(GroupError, match=re.escape(told)):
        choose(many, Rules(hold_out=0, flood="refuse"))


def test_few_merchants_who_are_alike_are_no_flood() -> None:
    alike = [group(n, f"u{n % 4}") for n in range(1_000)]
    assert choose(alike, Rules(hold_out=0)).surplus == {}
    one_more_often = [group(n, f"u{n % 4}" if n % 10 else "loud") for n in range(2_000)]
    assert choose(one_more_often, Rules(hold_out=0)).surplus == {}


def test_a_flood_in_a_short_time_is_none_of_the_whole() -> None:
    """Of 3,000 groups one merchant has 4 %, and has them all in one tenth of the time."""
    many = groups(3_000)
    many[1_000:1_120] = [group(1_000 + n, "flood") for n in range(120)]
    assert choose(many, Rules(hold_out=0)).surplus == {"flood": 70}


@pytest.mark.parametrize(
    ("original", "new", "weight", "share"),
    [(100, 20, 1.0, 100 / 120), (30, 70, 1.0, 0.3), (10, 70, 3.0, 0.3), (1, 700, 300.0, 0.3)],
)
def test_original_data_keep_their_share_of_all_weight(original: int, new: int, weight: float, share: float) -> None:
    mixture = mix(groups(original), groups(new, first=1_000), 0.3)
    assert mixture.original_weight == pytest.approx(weight) and mixture.original_share == pytest.approx(share)
    of_original = mixture.weights[mixture.order < original]
    assert len(of_original) == original and of_original.sum() / mixture.weights.sum() == pytest.approx(share)
    assert mixture.weights[mixture.order >= original].tolist() == [1] * new
    assert mixture.effective_groups <= original + new
    assert mixture.to_json()["original_weight"] == pytest.approx(weight)


def test_groups_without_a_pick_or_a_choice_do_not_count_for_the_share() -> None:
    silent = [group(n, picked=()) for n in range(2_000, 2_050)] + [
        group(n, picked=(0, 1, 2)) for n in range(2_050, 2_060)
    ]
    mixture = mix([*groups(10), *silent], groups(70, first=1_000), 0.3)
    assert (mixture.original, mixture.new) == (10, 70) and mixture.original_weight == pytest.approx(3)
    with pytest.raises(GroupError, match="no original group has both a pick"):
        mix(silent, groups(70), 0.3)
    with pytest.raises(GroupError, match="no new group has both a pick"):
        mix(groups(70), silent, 0.3)


def test_the_order_depends_on_ids_alone_and_mixes_both() -> None:
    one, other = groups(200), groups(200, first=1_000)
    mixture = mix(one, other, 0.3)
    ids = [g.group_id for g in [*one, *other]]
    in_order = [ids[place] for place in mixture.order]
    again = mix(other, one[::-1], 0.3)
    assert in_order == [[g.group_id for g in [*other, *one[::-1]]][place] for place in again.order]
    assert 20 < (mixture.order[-80:] < 200).sum() < 60  # the last groups are a sample of all
    assert sorted(mixture.order.tolist()) == list(range(400)) and mixture.weights.dtype == np.float32


def test_arms_are_counted_where_a_table_says_them(tmp_path: Path) -> None:
    ids = ["g0", "g1", "g2", "g3"]
    rows = pa.table({"group_id": ids, "arm": ["live", "mixed", None, "holdback"]})
    write_deltalake(str(tmp_path / "delta"), rows)
    assert arms_of(tmp_path / "delta", {"g0", "g1", "g2"}) == {"live": 1, "mixed": 1, "unknown": 1}
    write_deltalake(str(tmp_path / "older"), rows.drop_columns(["arm"]))
    for table in (tmp_path / "older", tmp_path / "parquet"):
        assert arms_of(table, set(ids)) == {"unknown": 4}
