"""Groups as tensors: their file format, what they refuse, and the order they are trained in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.feature_schema import FeatureSchema
from contract.labels import Labels
from training.data.groups import EpochSampler, GroupError, GroupTensors


def groups(schema: FeatureSchema, **changes: object) -> GroupTensors:
    arrays: dict[str, object] = {
        "features": np.ones((4, 4), np.int64),
        "selected": np.array([[1, 0], [0, 0], [1, 1], [0, 1]], bool),
        "input_ids": np.zeros((4, 3, 77), np.int64),
        "latents": np.zeros((4, 2, 4, 8, 8), np.float16),
    }
    return GroupTensors(schema, **(arrays | changes))  # type: ignore[arg-type]


def test_they_survive_their_directory(schema: FeatureSchema, tmp_path: Path) -> None:
    groups(schema).save(tmp_path)
    loaded = GroupTensors.load(tmp_path)
    assert loaded.schema == schema and loaded.images is None
    np.testing.assert_array_equal(loaded.selected, groups(schema).selected)


def test_only_groups_that_teach_something_are_used(schema: FeatureSchema) -> None:
    assert groups(schema).rows_with(negatives=True).tolist() == [0, 3]
    assert groups(schema).rows_with(negatives=False).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": np.zeros((4, 2, 4, 8, 8), np.float32)}, "latents is float32"),
        ({"latents": np.zeros((4, 3, 4, 8, 8), np.float16)}, "latents has 3 candidates"),
        ({"input_ids": np.zeros((3, 3, 77), np.int64)}, "input_ids is int64"),
        ({"features": np.ones((4, 5), np.int64)}, "5 slots, the schema 4"),
        ({"features": np.full((4, 4), 9)}, "'style' has codes outside"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(schema: FeatureSchema, changes: dict[str, object], message: str) -> None:
    with pytest.raises(GroupError, match=message):
        groups(schema, **changes)


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GroupError, match=r"no features\.npy, selected\.npy, input_ids\.npy"):
        GroupTensors.load(tmp_path)


def test_an_array_cut_short_is_refused_by_name(schema: FeatureSchema, tmp_path: Path) -> None:
    groups(schema).save(tmp_path)
    path = tmp_path / "latents.npy"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(GroupError, match=r"latents\.npy cannot be read"):
        GroupTensors.load(tmp_path)


@pytest.mark.parametrize("name", ["features", "selected", "input_ids", "latents", "present"])
def test_the_fingerprint_knows_every_value_that_is_trained_on(schema: FeatureSchema, name: str) -> None:
    before, changed = (groups(schema, present=np.ones((4, 2), bool)) for _ in range(2))
    assert before.fingerprint() == changed.fingerprint() == groups(schema).fingerprint()
    values = getattr(changed, name)
    at = (2, *[-1] * (values.ndim - 1))
    values[at] = not values[at] if values.dtype == bool else values[at] + 1
    assert before.fingerprint() != changed.fingerprint()


def test_labels_are_not_trained_on(schema: FeatureSchema) -> None:
    features = [replace(f, labels=(Labels("zh", f"标签{n}", f.vocabulary),)) for n, f in enumerate(schema.features)]
    assert groups(FeatureSchema(tuple(features))).fingerprint() == groups(schema).fingerprint()


def test_a_split_keeps_the_last_groups_apart(schema: FeatureSchema) -> None:
    training, held_out = groups(schema).split(1)
    assert (len(training), len(held_out)) == (3, 1)
    with pytest.raises(GroupError, match="hold out 4 of 4"):
        groups(schema).split(4)


def test_each_group_comes_once_an_epoch_in_an_order_that_depends_on_the_step_alone() -> None:
    rows = np.array([3, 5, 7, 11, 13])
    sampler = EpochSampler(rows, batch_size=2, seed=1)
    seen = np.concatenate([sampler.batch(n) for n in range(5)])
    assert sorted(seen[:5]) == rows.tolist() and sorted(seen[5:]) == rows.tolist()
    assert seen[:5].tolist() != seen[5:].tolist()
    np.testing.assert_array_equal(EpochSampler(rows, 2, seed=1).batch(3), seen[6:8])


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(GroupError, match="no group"):
        EpochSampler(np.array([], int), 2, seed=0)


def test_a_group_is_seen_as_often_as_its_weight_says() -> None:
    rows, weights = np.array([3, 5, 8, 9]), np.array([2.5, 0.5, 0.5, 0.5], np.float32)
    sampler = EpochSampler(rows, 4, seed=1, weights=weights)
    epochs = [sampler.batch(n).tolist() for n in range(200)]
    assert all(epoch.count(3) in (2, 3) and set(epoch) <= set(rows.tolist()) for epoch in epochs)
    counts = np.array([[epoch.count(row) for row in rows] for epoch in epochs]).mean(0)
    np.testing.assert_allclose(counts, weights / weights.mean(), atol=0.15)
    np.testing.assert_array_equal(EpochSampler(rows, 4, seed=1, weights=weights).batch(7), epochs[7])


def test_weights_stay_with_their_groups(tmp_path: Path, schema: FeatureSchema) -> None:
    features, ids = np.ones((3, schema.n_slots), np.int64), np.zeros((3, 1, 77), np.int64)
    selected, weights = np.eye(3, 2, dtype=bool), np.array([1, 2, 3], np.float32)
    groups = GroupTensors(schema, features, selected, ids, weights=weights)
    assert groups.weight.tolist() == [1, 2, 3] and groups.rows(np.array([2, 0])).weight.tolist() == [3, 1]
    groups.save(tmp_path)
    assert GroupTensors.load(tmp_path).weight.tolist() == [1, 2, 3]
    plain = replace(groups, weights=None)
    assert plain.weight.tolist() == [1, 1, 1] and plain.fingerprint() != groups.fingerprint()
    with pytest.raises(GroupError, match="weights are positive"):
        replace(groups, weights=np.array([1, 0, 1], np.float32))


def test_how_much_a_pick_counts_stays_with_it(tmp_path: Path, schema: FeatureSchema) -> None:
    features, ids = np.ones((2, schema.n_slots), np.int64), np.zeros((2, 1, 77), np.int64)
    selected, counts = np.array([[True, False], [True, True]]), np.array([[3, 9], [1, 2]], np.float32)
    groups = GroupTensors(schema, features, selected, ids, counts=counts)
    assert groups.chosen_of(np.array([1, 0])).tolist() == [[1, 2], [3, 0]]
    groups.save(tmp_path)
    assert GroupTensors.load(tmp_path).chosen_of(np.array([0])).tolist() == [[3, 0]]
    plain = replace(groups, counts=None)
    assert plain.chosen_of(np.arange(2)).dtype == bool and plain.fingerprint() != groups.fingerprint()
    with pytest.raises(GroupError, match="counts are numbers from 1 on"):
        replace(groups, counts=np.zeros((2, 2), np.float32))
