"""What buyers ordered of a picture, and how much it counts beside the picks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake

from tests.training.retraining.events import group as group_event
from tests.training.retraining.events import pick, shop, uuid
from tests.training.retraining.test_collecting import Collecting
from training.common.objectives import reward_cross_entropy
from training.data.columns import TableError
from training.data.table import Candidate, Group
from training.retraining.erasing import erase
from training.retraining.mixture import mix
from training.retraining.orders import Orders, read_orders


def group(name: str, picked: Sequence[int], size: int = 4) -> Group:
    candidates = tuple(Candidate(uuid(f"{name}-{k}"), k in picked, uri=f"{name}-{k}.png") for k in range(size))
    return Group(uuid(name), "store-1", "dress", candidates)


def test_returns_are_taken_off_and_each_event_counts_once(tmp_path: Path) -> None:
    of = Collecting(tmp_path / "lake")
    of.log.put(group_event("a"), group_event("b"), pick("a", 0, 1), pick("b", 0))
    of.log.put(shop("a", "order", 1, 3), shop("a", "order", 2, 2), shop("a", "order", 2, 2), shop("a", "return", 1, 1))
    of.log.put(shop("a", "order", 3, 1, place=1), shop("a", "click", 4), shop("b", "order", 5, 1))
    of.collect()
    of.log.put(shop("b", "return", 5, 1))
    before = of.lake.open("shop").version()
    of.collect()
    table = Path(of.lake.location("shop"))
    found = read_orders(table, 1.0, {uuid("a"), uuid("b")})
    assert found.units == {(uuid("a"), uuid("a-0")): 4, (uuid("a"), uuid("a-1")): 1}  # b's went back
    assert read_orders(table, 1.0, {uuid("b")}).units == {}
    assert read_orders(Path(f"{table}@{before}"), 1.0, {uuid("b")}).units == {(uuid("b"), uuid("b-0")): 1}
    erase(of.lake, "store-1")
    assert read_orders(table, 1.0, {uuid("a"), uuid("b")}).units == {}


@pytest.mark.parametrize("columns", [None, {"kind": ["order"]}])
def test_what_is_no_table_of_the_shop_is_refused(tmp_path: Path, columns: dict[str, Any] | None) -> None:
    if columns:
        write_deltalake(str(tmp_path / "shop"), pa.table(columns))
    with pytest.raises(TableError, match="lacks event_id" if columns else "no Delta table"):
        read_orders(tmp_path / "shop", 1.0, set())


def test_a_pick_that_sold_counts_with_the_logarithm_of_its_units() -> None:
    sold = Orders({(uuid("a"), uuid("a-0")): 7, (uuid("a"), uuid("a-3")): 9}, 0.5)
    of = group("a", [0, 1])
    np.testing.assert_allclose(sold.counts(of), [1 + 0.5 * np.log(8), 1, 1, 1])  # the last one is picked no more
    assert sold.worth(of) == pytest.approx(1 + 0.25 * np.log(8))
    assert sold.worth(group("a", [])) == sold.worth(group("b", [0])) == 1
    assert sold.to_json([of]) == {"weight": 0.5, "pictures_sold": 1, "units": 7}


def test_the_loss_is_that_of_each_pick_as_often_as_it_counts() -> None:
    sold, of = Orders({(uuid("a"), uuid("a-1")): 4}, 0.8), group("a", [0, 1])
    scores = torch.randn(1, 4, generator=torch.Generator().manual_seed(1))
    chosen = torch.from_numpy(np.where([True, True, False, False], sold.counts(of), 0).astype(np.float32))[None]
    loss = sold.worth(of) * reward_cross_entropy(scores, chosen)
    log_p = scores.log_softmax(-1)[0]
    expected = -(log_p[0] + (1 + 0.8 * np.log(5)) * log_p[1]) / 2
    torch.testing.assert_close(loss[0], expected.to(torch.float32), rtol=1e-5, atol=1e-6)
    alike = reward_cross_entropy(scores, torch.tensor([[True, True, False, False]]))
    assert torch.equal(alike, reward_cross_entropy(scores, torch.tensor([[1.0, 1.0, 0.0, 0.0]])))


def test_groups_that_sold_weigh_more_and_original_data_keep_their_share() -> None:
    original, new = [group(f"o{n}", [0]) for n in range(10)], [group(f"n{n}", [0]) for n in range(70)]
    sold = Orders({(uuid(f"n{n}"), uuid(f"n{n}-0")): 20 for n in range(35)}, 1.0)
    mixture = mix(original, new, 0.3, sold.worth)
    of_original = mixture.order < 10
    assert mixture.weights[of_original].sum() / mixture.weights.sum() == pytest.approx(0.3)
    assert mixture.original_share == pytest.approx(0.3) and mixture.new == 70
    by_place = dict(zip(mixture.order.tolist(), mixture.weights.tolist(), strict=True))
    assert by_place[10] == pytest.approx(1 + np.log(21)) and by_place[79] == 1
    weights = mixture.weights.astype(float)
    assert mixture.effective_groups == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert mixture.to_json()["new_weight"] == pytest.approx(1 + np.log(21) / 2)


def test_without_a_weight_nothing_changes() -> None:
    original, new = [group(f"o{n}", [0]) for n in range(5)], [group(f"n{n}", [0]) for n in range(30)]
    sold = Orders({(uuid("n1"), uuid("n1-0")): 20}, 0.0)
    one, other = mix(original, new, 0.3), mix(original, new, 0.3, sold.worth)
    assert one.weights.tobytes() == other.weights.tobytes() and one.to_json() == other.to_json()
    assert (sold.counts(new[1]) == 1).all()
