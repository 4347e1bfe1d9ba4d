"""What the services say of a wrong field, in the reader's language."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import feature_schema, picture_files, pictures
from services.generation import requests as rounds
from services.items import requests as items
from services.runtime import fields
from services.runtime.errors import InvalidArgument
from services.studio import drafts, listings, problems
from services.studio.languages import language

CHINESE, ENGLISH = language("zh"), language("en")
CHECKS = (feature_schema, picture_files, pictures, rounds, items, fields, drafts, listings)
SAYING = {"refuse": 1, "require": 2, "PictureRefused": 0}  # which argument is the sentence


def _sentence(node: ast.expr) -> str | None:
    """With 7 for every value."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in values)
    return None


def _sentences(module: object) -> Iterator[str]:
    """All that a module says of a field, as its source has it."""
    for node in ast.walk(ast.parse(Path(str(getattr(module, "__file__"))).read_text())):  # noqa: B009
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            place = SAYING.get(name)
            if place is not None and len(node.args) > place and (found := _sentence(node.args[place])):
                yield found
        if isinstance(node, ast.FunctionDef) and node.name.startswith(("problem", "_problem", "_unknown")):
            for returned in (part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value):
                branches = (returned.body, returned.orelse) if isinstance(returned, ast.IfExp) else (returned,)
                yield from (found for branch in branches if (found := _sentence(branch)))


@pytest.mark.parametrize("module", CHECKS, ids=lambda module: module.__name__)
def test_each_sentence_of_the_checks_is_said_in_chinese(module: object) -> None:
    sentences = set(_sentences(module))
    assert sentences
    english = {sentence for sentence in sentences if problems.said(CHINESE, sentence) == sentence}
    assert not english


def test_values_are_kept() -> None:
    assert problems.said(CHINESE, "must be 1 to 64") == "须在 1 至 64 之间"
    assert "'lila'" in problems.said(CHINESE, "unknown value 'lila'; known are red, blue\nand green")


def test_a_reader_of_english_reads_what_the_service_says_and_so_does_everybody_where_it_is_new() -> None:
    assert problems.said(ENGLISH, "must be 1 to 64") == "must be 1 to 64"
    assert problems.said(CHINESE, "must rhyme") == "must rhyme"


def test_values_with_braces_are_text() -> None:
    said = problems.said(CHINESE, "unknown value '{low}{0}'; known are {known}")
    assert "'{low}{0}'" in said and said.endswith("{known}")


def test_problems_stand_at_the_forms_fields() -> None:
    error = InvalidArgument(("refused_wishes[3]", "is out of range"), ("refused_wishes[4]", "must be set"))
    found = problems.by_field(error, ENGLISH, lambda path: path.partition("[")[0])
    assert found == {"refused_wishes": ["is out of range", "must be set"]}
    assert problems.by_field(None, ENGLISH) == {}


def test_a_round_names_its_fields_as_the_form_does() -> None:
    assert problems.field(CHINESE, "seed") == "随机种子"
    assert problems.field(ENGLISH, "request_id") == "request_id"
