"""Rows that are computed once: what was added stays, in whatever order it is asked for, until it is forgotten."""

from pathlib import Path

import numpy as np
import pytest

from training.common.errors import WeightsError
from training.data.known_rows import KnownRows


def filled(known: KnownRows, keys: list[str]) -> list[list[int]]:
    out = np.zeros((len(keys), 2), np.int64)
    known.fill(out, keys)
    return out.tolist()


@pytest.fixture
def known(tmp_path: Path) -> KnownRows:
    known = KnownRows(tmp_path)
    known.add(["a", "b"], np.array([[1, 1], [2, 2]]))
    known.add(["c"], np.array([[3, 3]]))
    return known


def test_rows_are_found_again_by_another_run(known: KnownRows) -> None:
    for each in (known, KnownRows(known.folder)):
        assert len(each) == 3 and "a" in each and "d" not in each
        assert filled(each, ["c", "a", "b", "a"]) == [[3, 3], [1, 1], [2, 2], [1, 1]]


def test_what_is_forgotten_is_gone_from_the_disk(known: KnownRows) -> None:
    known.keep_only({"b"})
    assert [path.name for path in sorted(known.folder.iterdir())] == ["00000.npz"]
    for each in (known, KnownRows(known.folder)):
        assert len(each) == 1 and filled(each, ["b"]) == [[2, 2]]
    known.keep_only(())
    assert list(known.folder.iterdir()) == []
    known.add(["d"], np.array([[4, 4]]))
    assert filled(KnownRows(known.folder), ["d"]) == [[4, 4]]


def test_a_kill_while_writing_leaves_what_was_there(known: KnownRows) -> None:
    (known.folder / "00002.new").write_bytes(b"half")
    assert len(KnownRows(known.folder)) == 3
    known.add(["d"], np.array([[4, 4]]))
    assert len(KnownRows(known.folder)) == 4


def test_a_damaged_file_is_named(known: KnownRows) -> None:
    (known.folder / "00001.npz").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"00001\.npz cannot be read"):
        KnownRows(known.folder)
