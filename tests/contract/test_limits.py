"""Limits of requests: what is given when nothing is asked for could have been asked for."""

from contract import limits
from contract.release import Defaults


def test_every_default_is_within_its_limit() -> None:
    assert 1 <= limits.DEFAULT_CANDIDATES <= limits.MAX_CANDIDATES
    assert 1 <= limits.DEFAULT_PAGE_SIZE <= limits.MAX_PAGE_SIZE
    assert 1 <= limits.DEFAULT_SUGGESTIONS <= limits.MAX_SUGGESTIONS
    assert 0 < limits.DEFAULT_STRENGTH <= 1
    assert Defaults().sampler in limits.SAMPLERS  # and refuses any other


def test_a_whole_group_can_be_ranked_and_selected() -> None:
    assert min(limits.MAX_RANKED_IMAGES, limits.MAX_SELECTED_IMAGES) >= limits.MAX_CANDIDATES


def test_a_prefix_can_complete_to_any_phrase_and_a_phrase_fits_into_a_prompt() -> None:
    assert limits.MAX_PREFIX_CHARS <= limits.MAX_PHRASE_CHARS < limits.MAX_PROMPT_CHARS
    assert len(set(limits.SAMPLERS)) == len(limits.SAMPLERS)
