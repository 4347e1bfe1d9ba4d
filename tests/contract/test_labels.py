"""Labels: their form, and what is wrong with them. Vocabularies and schemas have tests of their own."""

import pytest

from contract.errors import FeatureError
from contract.labels import Labels, labels_from_json, labels_to_json, problem_of, repeated_name

ZH, PT = Labels("zh", "袖长", ("无袖", "长袖")), Labels("pt-BR", "Manga", ("sem mangas", "mangas compridas"))


def test_labels_survive_their_form() -> None:
    data = {"zh": {"name": "袖长", "words": ["无袖", "长袖"]}, "de": {"name": "Jahre"}}
    labels = labels_from_json(data, "name", "words", "years", FeatureError)
    assert labels == (ZH, Labels("de", "Jahre"))
    assert labels_to_json(labels, "name", "words") == data
    assert labels_from_json({}, "name", "words", "years", FeatureError) == ()


@pytest.mark.parametrize(
    "data", [None, ["zh"], {"zh": "袖长"}, {"zh": {}}, {"zh": {"name": 3}}, {"zh": {"name": "袖", "words": "无"}}]
)
def test_another_form_is_refused_and_says_whose(data: object) -> None:
    with pytest.raises(FeatureError, match="^years: labels are"):
        labels_from_json(data, "name", "words", "years", FeatureError)


@pytest.mark.parametrize(
    ("language", "is_one"),
    [("zh", True), ("zh-Hans", True), ("pt-BR", True), ("de-CH-1996", True), ("", False), ("z", False), ("zh-", False),
     ("zh_CN", False), ("中文", False), ("zh CN", False), ("chinesisch", False)],
)  # fmt: skip
def test_languages_have_tags(language: str, is_one: bool) -> None:
    assert (problem_of([Labels(language, "袖长", ("无袖", "长袖"))], 2) is None) is is_one


def test_labels_fit_their_words() -> None:
    assert problem_of([ZH, PT], 2) is None and problem_of([], 2) is None
    assert problem_of([ZH, PT], 3) == "2 labels of 3 words in 'zh'"
    assert problem_of([Labels("zh_CN", "袖长")], 0) == "'zh_CN' is no language tag, such as 'zh' or 'pt-BR'"
    assert problem_of([Labels("de", "Jahre"), Labels("DE", "Alter")], 0) == "the language 'de' is there twice"


def test_two_kinds_have_two_names_in_a_language() -> None:
    assert repeated_name([[ZH], [PT], [Labels("de", "袖长")]]) is None
    assert repeated_name([[ZH], [PT, Labels("ZH", " 袖长")]]) == "袖长 (zh)"
