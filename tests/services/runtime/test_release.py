"""Which release is in service, and what a release that cannot be read means to a caller."""

import json
from pathlib import Path

import pytest

from contract.repository import Repository
from contract.rollout import Rollout, rollout_file
from services.runtime import patience
from services.runtime.errors import FailedPrecondition, Unavailable
from services.runtime.release import Releases
from services.runtime.triton import NotLoaded
from tests.services.market import (
    IMAGE_SIZE_PX,
    PADDED_PHRASES,
    PADDED_SLOTS,
    PHRASES,
    SCHEMA,
    SLOTS,
    TEXT_TOKENS,
    VOCABULARY,
    write_release,
)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    write_release(tmp_path, 1)
    return Releases(tmp_path)


def test_the_manifest_the_schema_and_the_phrases_are_read(releases: Releases) -> None:
    release = releases.current()
    sizes, in_use = release.sizes, release.manifest.in_use
    assert (release.number, sizes.image_size_px, sizes.text_tokens) == (1, IMAGE_SIZE_PX, TEXT_TOKENS)
    assert (sizes.feature_slots, sizes.phrases) == (PADDED_SLOTS, PADDED_PHRASES)
    assert (in_use.feature_slots, in_use.phrases) == (SLOTS, PHRASES)
    assert release.manifest.noise_schedule.beta_schedule == "scaled_linear"
    assert release.feature_schema == SCHEMA and release.vocabulary == VOCABULARY
    assert release.tokenizer_file.exists() and release.reward_tokenizer_file.exists()


def test_a_switch_is_seen_at_once(releases: Releases, tmp_path: Path) -> None:
    assert releases.current().number == 1
    write_release(tmp_path, 2)
    assert releases.current().number == 2
    assert releases.get(1).number == 1 and releases.get(0).number == 2


def test_a_release_that_is_not_there_is_a_failed_precondition(releases: Releases) -> None:
    with pytest.raises(FailedPrecondition, match="release 7"):
        releases.get(7)


def test_a_release_is_refused_only_where_nothing_needs_it_loaded(releases: Releases, tmp_path: Path) -> None:
    """The live one, the fallback and those of the rollout are loaded again when Triton starts: that passes."""
    for number in (2, 3, 4, 5):
        write_release(tmp_path, number, current=False)
    Repository(tmp_path).point(1, fallback=2)
    rollout_file(tmp_path).write_text(json.dumps(Rollout(trial=3, mixed_share=0.5, base=4).to_json()))
    for number, error in [(0, Unavailable), (1, Unavailable), (2, Unavailable), (3, Unavailable), (4, Unavailable)]:
        with pytest.raises(error), releases.serving(number) as release:
            raise NotLoaded("denoiser", release.number)
    with pytest.raises(FailedPrecondition, match="release 5 is not loaded") as refused, releases.serving(5):
        raise NotLoaded("denoiser", 5)
    assert refused.value.metadata == {"field": "release"}
    rollout_file(tmp_path).write_text("{")
    with pytest.raises(NotLoaded), releases.serving(5):
        raise NotLoaded("denoiser", 5)


def test_a_dead_model_is_waited_for_in_the_release_in_service_alone(releases: Releases, tmp_path: Path) -> None:
    write_release(tmp_path, 2, current=False)
    found = {}
    for number in (0, 1, 2):
        with releases.serving(number):
            found[number] = patience._patience_s.get()
    assert found[0] == found[1] == patience._patience_s.get() > 1 > found[2]
    (tmp_path / "releases" / "current").unlink()
    with releases.serving(2):
        assert patience._patience_s.get() == found[0], "nobody can say which one is in service"


@pytest.mark.parametrize("broken", ["", "one", "9"])
def test_without_a_readable_release_in_service_it_is_unavailable(
    releases: Releases, tmp_path: Path, broken: str
) -> None:
    (tmp_path / "releases" / "current").write_text(broken)
    with pytest.raises(Unavailable, match="release"):
        releases.current()


@pytest.mark.parametrize("file", ["manifest.json", "feature_schema.json", "phrases.json"])
def test_a_malformed_file_is_unavailable_and_can_be_mended(releases: Releases, tmp_path: Path, file: str) -> None:
    path = tmp_path / "releases" / "1" / file
    good = path.read_text()
    path.write_text("[{}]")
    with pytest.raises(Unavailable):
        releases.current()
    path.write_text(good)
    assert releases.current().number == 1
