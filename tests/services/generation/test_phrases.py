"""Which phrases fit a prompt and a prefix, and how they are ordered."""

from dataclasses import replace

import numpy as np

from contract.labels import Labels
from contract.vocabulary import PhraseKind, Vocabulary
from services.generation.phrases import best, extended, fitting, gains, without

KINDS = (
    PhraseKind("sleeve", ("sleeveless", "long sleeves", "bell sleeves")),
    PhraseKind("detail", ("sequins", "hand-sewn ruffles")),
)
VOCABULARY = Vocabulary(KINDS)


def texts_of(vocabulary: Vocabulary, prompt: str) -> list[str]:
    return [phrase.text for phrase in fitting(vocabulary, prompt, "")]


def texts(prompt: str, prefix: str) -> list[str]:
    return [phrase.text for phrase in fitting(VOCABULARY, prompt, prefix)]


def test_a_prefix_completes_the_beginning_of_a_phrase_or_of_a_word_in_it() -> None:
    assert texts("dress", "sl") == ["sleeveless", "long sleeves", "bell sleeves"]
    assert texts("dress", " SEW") == ["hand-sewn ruffles"]
    assert texts("dress", "leeve") == []


def test_a_prefix_completes_labels_as_it_does_phrases() -> None:
    sleeve = replace(
        KINDS[0],
        labels=(
            Labels("zh", "袖型", ("无袖", "长袖", "喇叭袖")),
            Labels("fr", "manches", ("sans manches", "manches longues", "manches évasées")),
        ),
    )
    vocabulary = Vocabulary((sleeve, KINDS[1]))

    def found(prefix: str, prompt: str = "dress") -> list[str]:
        return [phrase.text for phrase in fitting(vocabulary, prompt, prefix)]

    assert found("喇叭") == ["bell sleeves"] and found("袖") == ["sleeveless", "long sleeves", "bell sleeves"]
    assert found("Manches É") == ["bell sleeves"] and found("man") == ["sleeveless", "long sleeves", "bell sleeves"]
    assert found("anches") == []  # French has spaces between its words
    assert found("袖", "dress,无袖，Manches longues") == ["bell sleeves"]  # the others are there already
    assert found("", "长袖") == ["sequins", "hand-sewn ruffles"]


def test_without_a_prefix_kinds_already_spoken_of_are_left_out() -> None:
    assert texts("dress, Long Sleeves", "") == ["sequins", "hand-sewn ruffles"]


def test_kinds_that_the_prompt_leaves_no_place_for_are_left_out() -> None:
    category, sleeve = PhraseKind("category", ("dress", "Trousers")), KINDS[0]
    style = PhraseKind("style", ("puffed",), only_with=(("dress",), ("Long sleeves", "bell sleeves")))
    vocabulary = Vocabulary((category, sleeve, style))

    def kinds(prompt: str, prefix: str = "") -> set[str]:
        return {phrase.kind for phrase in fitting(vocabulary, prompt, prefix)}

    assert kinds("DRESS") == {"sleeve", "style"} and kinds("red") == {"category", "sleeve", "style"}
    assert kinds("trousers") == {"sleeve"} and kinds("dress,trousers") == {"sleeve", "style"}
    assert kinds("dress,long sleeves") == {"style"} and kinds("dress,sleeveless") == set()
    assert kinds("trousers", "puff") == {"style"}  # asked for
    assert texts_of(vocabulary, "puffed") == ["dress", "long sleeves", "bell sleeves"]  # nor trousers and sleeveless
    assert texts_of(vocabulary, "trousers,puffed") == ["long sleeves", "bell sleeves"]  # what is said already is meant


def test_with_a_prefix_only_what_is_already_there_is_left_out() -> None:
    assert texts("dress,long sleeves", "s") == ["sleeveless", "bell sleeves", "sequins", "hand-sewn ruffles"]


def test_a_prompt_is_split_and_extended_at_commas() -> None:
    assert extended("dress, v-neck,", "sequins") == "dress,v-neck,sequins"
    assert extended("", "sequins") == "sequins"
    assert without("dress,Sleeveless, v-neck,bell sleeves", KINDS[0]) == "dress,v-neck"


def test_a_phrase_gains_over_the_mean_of_its_kind() -> None:
    texts = np.array([[1, 0], [0.6, 0.8], [-1, 0], [0.8, 0.6], [0, 1]], np.float32)
    found = gains(np.array([1, 0], np.float32), texts, KINDS, logit_scale=50.0)
    assert [phrase.text for phrase in found] == [text for kind in KINDS for text in kind.phrases]
    np.testing.assert_allclose(list(found.values()), [40, 20, -60, 20, -20], rtol=1e-6)


def test_the_best_come_first_and_ties_keep_the_vocabulary_order() -> None:
    phrases = fitting(VOCABULARY, "", "")
    suggested = best(phrases, [0.1, 0.5, 0.1, 0.5, 0.0], 3)
    assert [each.phrase.text for each in suggested] == ["long sleeves", "sequins", "sleeveless"]
