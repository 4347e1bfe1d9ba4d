"""Which phrases fit a prompt and a prefix, and how they are ordered."""

import numpy as np

from services.generation.phrases import best, extended, fitting, phrases_of, scores
from services.runtime.release import PhraseKind

VOCABULARY = (
    PhraseKind("sleeve", ("sleeveless", "long sleeves", "bell sleeves")),
    PhraseKind("detail", ("sequins", "hand-sewn ruffles")),
)


def texts(prompt: str, prefix: str) -> list[str]:
    return [phrase.text for phrase in fitting(VOCABULARY, prompt, prefix)]


def test_a_prefix_completes_the_beginning_of_a_phrase_or_of_a_word_in_it() -> None:
    assert texts("dress", "sl") == ["sleeveless", "long sleeves", "bell sleeves"]
    assert texts("dress", " SEW") == ["hand-sewn ruffles"]
    assert texts("dress", "leeve") == []


def test_without_a_prefix_kinds_already_spoken_of_are_left_out() -> None:
    assert texts("dress, Long Sleeves", "") == ["sequins", "hand-sewn ruffles"]


def test_with_a_prefix_only_what_is_already_there_is_left_out() -> None:
    assert texts("dress,long sleeves", "s") == ["sleeveless", "bell sleeves", "sequins", "hand-sewn ruffles"]


def test_a_prompt_is_split_and_extended_at_commas() -> None:
    assert phrases_of(" dress, v-neck ,,") == ["dress", "v-neck"]
    assert extended("dress, v-neck,", "sequins") == "dress,v-neck,sequins"
    assert extended("", "sequins") == "sequins"


def test_scores_are_cosines_with_the_mean_picture() -> None:
    pictures = np.array([[1, 0], [0, 1]], np.float32)
    found = scores(np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32), pictures)
    np.testing.assert_allclose(found, np.array([1, 1.4, -1]) / 2**0.5, rtol=1e-6)


def test_the_best_come_first_and_ties_keep_the_vocabulary_order() -> None:
    phrases = fitting(VOCABULARY, "", "")
    suggested = best(phrases, [0.1, 0.5, 0.1, 0.5, 0.0], 3)
    assert [each.phrase.text for each in suggested] == ["long sleeves", "sequins", "sleeveless"]
