"""The market as a table: the same rounds always, and an answer sheet that agrees with them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lab.market.table import TRUTH, MarketRecipe, write_market
from training.common.metrics import rank_metrics
from training.data.prepare import decode
from training.data.table import TableError, read_schema, read_table

RECIPE = MarketRecipe(groups=200, candidates=3, merchants=20, seed=5)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("market")
    write_market(directory, RECIPE)
    return directory


def test_rounds_are_groups_with_pictures_and_profiles(table: Path) -> None:
    groups = list(read_table(table))
    assert len(groups) == 200 and len({g.group_id for g in groups}) == 200
    schema = read_schema(table)
    for group in groups[:20]:
        assert schema.problems(group.features) == [] and schema.encode(group.features).unknown == ()
        assert all(c.image is not None and decode(c.image, 64).std() > 0 for c in group.candidates)


def test_truth_ranks_picks_better_the_more_it_knows(table: Path) -> None:
    selected = np.array([[c.selected for c in g.candidates] for g in read_table(table, images=False)])
    truth = pq.read_table(table / TRUTH).to_pydict()
    assert truth["group_id"] == [g.group_id for g in read_table(table, images=False)]
    whole, features, nothing = (
        rank_metrics(np.array(truth[name]), selected).gauc
        for name in ("utility", "utility_by_features", "utility_without_user")
    )
    assert whole > features > nothing > 0.5


def test_the_same_recipe_gives_the_same_table(table: Path, tmp_path: Path) -> None:
    write_market(tmp_path, RECIPE)
    assert list(read_table(tmp_path)) == list(read_table(table))


def test_like_pickapic_the_user_is_an_id_and_nothing_else(tmp_path: Path) -> None:
    write_market(tmp_path, MarketRecipe(groups=100, candidates=2, merchants=5, ids_only=True))
    assert {tuple(g.features) for g in read_table(tmp_path, images=False)} == {("user_id",)}
    assert len(read_schema(tmp_path).features[0].vocabulary) == 5


def test_an_odd_number_of_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="multiple of 100, got 150"):
        write_market(tmp_path, MarketRecipe(groups=150))
