"""What goes wrong while a file is read: one line that names the file, and what was refused on purpose stays that."""

from pathlib import Path

import pytest

from contract.errors import FeatureError, InputError, ManifestError, VocabularyError, reading

PATH = Path("some/file.json")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (FileNotFoundError(2, "No such file"), "some/file.json cannot be read: .*No such file"),
        (ValueError("first line\nsecond line"), "some/file.json cannot be read: first line$"),
        (KeyError("name"), "some/file.json cannot be read: 'name'"),
        (TypeError(), "some/file.json cannot be read: TypeError$"),
    ],
)
def test_what_is_broken_becomes_one_line_that_names_the_file(broken: Exception, told: str) -> None:
    with pytest.raises(ManifestError, match=told) as caught, reading(PATH, ManifestError):
        raise broken
    assert "\n" not in str(caught.value)


def test_what_was_refused_keeps_its_class_and_gets_the_files_name() -> None:
    with pytest.raises(FeatureError, match="^some/file.json: no such feature$"), reading(PATH, ManifestError):
        raise FeatureError("no such feature")


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), reading(PATH, ManifestError):
        _ = 1 / 0


def test_all_that_is_refused_has_one_base() -> None:
    assert all(issubclass(kind, InputError) for kind in (FeatureError, VocabularyError, ManifestError))
    assert issubclass(InputError, ValueError)
