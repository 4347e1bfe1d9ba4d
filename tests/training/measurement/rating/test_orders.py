"""A rater's order: by chance from its seed, pictures of a set apart, repeats late."""

import pytest

from training.measurement.rating.orders import order, with_repeats

PICTURES = {f"p{n:02}": n // 2 for n in range(40)}  # twenty sets of two


def test_an_order_follows_from_its_seed_alone() -> None:
    backwards = dict(reversed(PICTURES.items()))
    assert order(PICTURES, 3) == order(backwards, 3) != order(PICTURES, 4)
    assert sorted(order(PICTURES, 3)) == sorted(PICTURES)


@pytest.mark.parametrize("seed", range(20))
def test_pictures_of_a_set_are_not_neighbours(seed: int) -> None:
    shown = order(PICTURES, seed)
    assert all(PICTURES[a] != PICTURES[b] for a, b in zip(shown, shown[1:], strict=False))


def test_where_they_must_be_neighbours_they_are() -> None:
    assert sorted(order({"a": 0, "b": 0}, 0)) == ["a", "b"]
    assert order({}, 0) == []


@pytest.mark.parametrize("seed", range(20))
def test_repeats_come_once_each_after_their_gap(seed: int) -> None:
    shown = with_repeats(order(PICTURES, seed), sorted(PICTURES)[2:], 0.08, 10, seed)
    again = [picture for picture in PICTURES if shown.count(picture) == 2]
    assert len(shown) == len(PICTURES) + len(again)
    assert len(again) == 3
    for picture in again:
        first, second = (n for n, of in enumerate(shown) if of == picture)
        assert second - first > 10
        assert picture not in ("p00", "p01")


def test_a_list_that_is_too_short_for_the_gap_repeats_at_its_end() -> None:
    assert with_repeats(["a", "b", "c"], ["a", "b", "c"], 0.08, 10, 0) == ["a", "b", "c", "a"]
    assert with_repeats([], [], 0.08, 10, 0) == []
