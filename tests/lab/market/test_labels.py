"""The market's labels: every word has one, and the committed family has them."""

from contract.prompts import folded
from lab.market.merchants import FEATURE_SCHEMA
from lab.market.prompts import vocabulary
from training.models.family import TINY, FamilyPaths


def test_every_phrase_and_every_feature_is_called_something_in_chinese() -> None:
    for kind in vocabulary().kinds:
        assert [(each.language, len(each.words)) for each in kind.labels] == [("zh", len(kind.phrases))], kind.name
    for feature in FEATURE_SCHEMA.features:
        told = [(each.language, len(each.words)) for each in feature.labels]
        assert told == [("zh", len(feature.vocabulary))], feature.name


def test_a_prompt_in_chinese_says_what_its_twin_says() -> None:
    words = vocabulary()
    assert words.canonical("连衣裙，V领、长袖,修身") == "dress,v-neck,long sleeves,slim-fit"
    assert words.canonical("Ｔ恤，纯色,something") == "t-shirt,plain,something"
    assert set(words.labels_of) == {folded(phrase) for _, phrase in words.phrases}


def test_the_tiny_family_has_the_markets_labels() -> None:
    family = FamilyPaths.under(TINY)
    assert family.phrases.read_text(encoding="utf-8") == vocabulary().to_text()
    assert family.feature_schema.read_text(encoding="utf-8") == FEATURE_SCHEMA.to_text()
