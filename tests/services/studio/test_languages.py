"""What the page says, in each of its languages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract
from jinja2.ext import babel_extract
from perfusion.v1.release_pb2 import Labels, PhraseKind, ProfileFeature, ReleaseInfo

from services.studio import languages
from services.studio.languages import Words, language, preferred

STUDIO = Path(languages.__file__).parent
KEYWORDS = {"_": None, "say": None, "noted": None}


def texts() -> Iterator[str]:
    """Every text of templates and code."""
    for file in STUDIO.rglob("*"):
        method = {".html": babel_extract, ".py": "python"}.get(file.suffix)
        if method is not None:
            with file.open("rb") as opened:
                yield from (str(found[1]) for found in extract(method, opened, KEYWORDS, (), {"silent": "false"}))


@pytest.mark.parametrize("tag", [tag for tag in languages.NAMES if tag != languages.ENGLISH])
def test_each_language_says_every_text_and_no_other(tag: str) -> None:
    said, written = set(texts()), language(tag).texts
    assert len(said) > 90
    assert said - written.keys() == set()
    assert written.keys() - said == set()


def test_a_translation_has_the_values_of_its_text() -> None:
    for text, translated in language("zh").texts.items():
        for value in ("{phrases}", "{phrase}", "{number}", "{name}", "{count}", "{all}", "{seconds}", "{position}"):
            assert (value in text) == (value in translated), text


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de-DE,de;q=0.9,en;q=0.5,zh;q=0.4", "en"),
        ("de, zh-Hant-TW;q=0.5", "zh"),
        ("en;q=0.1,zh;q=0.9", "zh"),
        ("*", "en"),
        ("x;q=nan,,;;;=,\u0000", "en"),
        ("zh" * 4000, "en"),
    ],
)
def test_a_browser_gets_the_language_that_it_likes_best(accepted: str, tag: str) -> None:
    assert preferred(accepted) == tag


RELEASE = ReleaseInfo(
    release=3,
    phrase_kinds=[
        PhraseKind(
            kind="category",
            phrases=["dress", "skirt"],
            labels=[Labels(language="zh", name="品类", words=["连衣裙", "半身裙"])],
        ),
        PhraseKind(kind="new", phrases=["neon"]),
    ],
    features=[
        ProfileFeature(
            name="price_level", vocabulary=["mid"], labels=[Labels(language="zh", name="价位", words=["中端"])]
        )
    ],
)


def test_words_of_a_release_in_chinese() -> None:
    words = Words(RELEASE, "zh")
    assert words.phrases("Dress, 半身裙,neon,shiny") == ["连衣裙", "半身裙", "neon", "shiny"]
    assert words.unknown("dress,半身裙,shiny") == ["shiny"]
    assert (words.name("category"), words.name("price_level"), words.name("new")) == ("品类", "价位", "new")
    assert words.word("price_level", "mid") == "中端"


def test_words_of_a_release_in_english() -> None:
    words = Words(RELEASE, "en")
    assert words.phrases("连衣裙") == ["dress"]
    assert words.name("price_level") == "price level"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 seconds"),
        (0.4, "0 seconds"),
        (59, "59 seconds"),
        (61, "1 minute"),
        (3_660, "1 hour, 1 minute"),
        (90_061, "1 day, 1 hour"),
        (86_400 * 60 + 59, "60 days"),
    ],
)
def test_a_span_has_its_two_largest_units(seconds: float, said: str) -> None:
    assert language("en").span(seconds) == said


def test_money_is_written_as_its_currency_is() -> None:
    assert language("en").money("EUR", 1999) == "€19.99"
    assert language("en").money("JPY", 1999) == "¥1,999"
    assert language("zh").money("CNY", 5) == "¥0.05"
    assert language("zh").span(90_000) == "1天、1小时"
