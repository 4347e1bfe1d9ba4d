"""Preference weights from a table: CLIP reads what candidates show, picks say who favours it; nothing is done twice."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.feature_schema import Feature, FeatureSchema
from contract.wishes import wishes
from lab.market.attributes import complete
from lab.market.drawing import draw
from lab.market.prompts import PHRASE_OF, vocabulary
from training.common.storage import origin_of
from training.data.table import Candidate, Group, read_table, write_table
from training.models.family import TINY, FamilyPaths
from training.wishes.fitting import Fit
from training.wishes.preferences import PreferenceWeights
from training.wishes.train import main
from training.wishes.training import verdict

N, K = 120, 3
REWARD = FamilyPaths.under(TINY).reward.absolute()  # tests run elsewhere


@pytest.fixture
def table(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drawings, of which minimalists pick what stands in a studio and the others what stands on a beach."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    groups = []
    for n in range(N):
        garments = [complete({"category": "dress"}, rng) for _ in range(K)]
        style = str(rng.choice(["minimalist", "luxury"]))
        liked = "studio" if style == "minimalist" else "beach"
        picked = max(range(K), key=lambda k: garments[k]["backdrop"] == liked)
        prompt = "a nice one" if n == 7 else f"dress,{PHRASE_OF['colour', garments[0]['colour']]}"
        groups.append(_group(n, garments, picked, style, prompt, rng))
    write_table(tmp_path / "table", groups, schema)
    return tmp_path / "table"


def _group(
    n: int, garments: list[dict[str, str]], picked: int, style: str, prompt: str, rng: np.random.Generator
) -> Group:
    candidates = tuple(Candidate(f"{n}-{k}", k == picked, _png(g, rng)) for k, g in enumerate(garments))
    return Group(f"g{n}", f"u{n}", prompt, candidates, {"style": style})


def _png(garment: dict[str, str], rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(garment, rng)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path, schema: FeatureSchema) -> Path:
    """The parts that are needed of a family: the published one's CLIP, phrases and a schema."""
    own = tmp_path / "family"
    own.mkdir()
    (own / "reward").symlink_to(REWARD)
    vocabulary().write(own / "phrases.json")
    schema.write(own / "feature_schema.json")
    return own


@pytest.fixture
def run(table: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on that table."""

    def call(*more: str) -> int:
        options = {"--data": str(table), "--out": "out", "--weights": str(root)}
        options |= dict(zip(more[::2], more[1::2], strict=True))
        monkeypatch.setattr(sys, "argv", ["train", *(word for pair in options.items() for word in pair)])
        return main()

    return call


def test_it_leaves_weights_and_what_they_predict_and_is_quick_the_second_time(
    run: Callable[..., int], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    printed = capsys.readouterr().out
    assert f"1 of {N} prompts name no category" in printed and "by profile" in printed
    assert "preference weights written to out/preferences" in printed
    picks = json.loads(Path("out/picks.json").read_text())
    assert picks["held_out_groups"] == N and verdict(picks) in printed  # few enough to hold out each in turn
    assert picks["gain"] == pytest.approx(picks["by_average"] - picks["by_profile"]) and picks["gain"] > 0
    family = FamilyPaths.under(root)
    origin = json.loads(Path("out/preferences/origin.json").read_text())
    assert origin["backbone"] == origin_of(family.clip())["backbone"]  # whose tags these are
    model = PreferenceWeights.load(Path("out/preferences"), family.schema(), family.vocabulary())
    for style, place in (("minimalist", "studio backdrop"), ("luxury", "beach backdrop")):
        (favours,) = model.of(np.array([family.schema().encode({"style": style}).slots]))
        assert wishes(vocabulary(), "dress", favours)[0] == place

    kept = {path: path.stat().st_mtime_ns for path in Path("build/prepared").glob("tags-*.npy")}
    monkeypatch.setattr("training.wishes.training.tags_by_clip", None)  # not called again
    assert len(kept) == 1 and run("--out", "other") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    weights = [Path(out, "preferences/preferences.safetensors").read_bytes() for out in ("out", "other")]
    assert weights[0] == weights[1]
    assert json.loads(Path("other/picks.json").read_text()) == picks


@pytest.mark.parametrize(("gain", "clear"), [(0.3, True), (0.2, True), (0.15, False), (0.0, False), (-0.3, False)])
def test_a_gain_counts_from_twice_its_error_on(gain: float, clear: bool) -> None:
    picks = {"held_out_groups": 12, "by_profile": 1.0 - gain, "by_average": 1.0, "gain": gain, "standard_error": 0.1}
    first, *rest = verdict(picks).splitlines()
    assert first.startswith("12 held-out groups") and f"gain {gain:.3f} ± 0.100" in first
    assert (rest == []) is clear
    assert clear or "do not show that profiles tell merchants apart" in rest[0]


def test_another_vocabulary_is_read_anew(
    run: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = vocabulary().to_json()
    (root / "phrases.json").write_text(json.dumps([entries[0], entries[-1]]))  # two kinds are enough
    assert run() == 0
    (root / "phrases.json").write_text(json.dumps([entries[0], entries[-2], entries[-1]]))
    assert run("--out", "other") == 0
    assert len(list(Path("build/prepared").glob("tags-*.npy"))) == 2
    assert capsys.readouterr().err.count("training stopped") == 0


CATEGORY = vocabulary().to_json()[0]
ALONE = {"kind": "belt", "phrases": ["belted"]}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([CATEGORY], "no kind after the category has two phrases"),
        ([CATEGORY, ALONE], "no kind after the category has two phrases"),
        (vocabulary().to_json()[1:], "only_with has"),  # a sleeve needs a category, and there is none
        ([{"kind": "category", "phrases": ["hat", "shoe"]}, vocabulary().to_json()[1]], "names a category of"),
    ],
)
def test_a_vocabulary_that_offers_no_choice_is_refused_before_anything_is_read(
    run: Callable[..., int],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    entries: list[object],
    told: str,
) -> None:
    monkeypatch.setattr("training.wishes.training.reward_groups", None)  # not called
    (root / "phrases.json").write_text(json.dumps(entries))
    assert run() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training stopped: ") and told in line and "phrases.json" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "absent"), "absent does not exist"),
        (("--data", "family/phrases.json"), "phrases.json is a file, not a folder"),
        (("--data", "."), "did you mean table? (a table is a folder of groups-*.parquet"),
        (("--weights", "absent"), "absent/phrases.json is missing"),
        (("--out", "family/phrases.json/out"), "phrases.json/out cannot be made: Not a directory"),
    ],
)
def test_bad_arguments_are_named_before_long_work(
    run: Callable[..., int],
    arguments: tuple[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.wishes.training.reward_groups", None)  # not called
    assert run(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_table_of_other_features_is_refused_by_the_first_that_differs(
    run: Callable[..., int],
    table: Path,
    tmp_path: Path,
    schema: FeatureSchema,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.wishes.training.reward_groups", None)  # not called
    groups = [replace(group, features={}) for group in read_table(table)]
    style, audience, years = schema.features
    for name, features, told in (
        (
            "more",
            (*schema.features, Feature("zodiac", "categorical", ("aries",))),
            "the feature 'zodiac' is one too many",
        ),
        ("less", (style, audience), "the feature 'years_open' is missing"),
        ("other", (style, replace(audience, max_values=3), years), "the feature 'audience' has another max_values"),
        ("order", (audience, style, years), "the features have another order"),
    ):
        write_table(tmp_path / name, groups, FeatureSchema(features))
        assert run("--data", str(tmp_path / name)) == 1
        printed = capsys.readouterr().err
        assert told in printed and f"/{name} differs from " in printed


def test_picks_at_random_are_said_to_be_so_and_no_weights_are_written_that_favour_nothing(
    run: Callable[..., int],
    schema: FeatureSchema,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(1)
    groups = []
    for n in range(60):
        garments = [complete({"category": "hoodie"}, rng) for _ in range(K)]
        style = str(rng.choice(["minimalist", "luxury"]))
        groups.append(_group(n, garments, int(rng.integers(K)), style, "hoodie", rng))
    write_table(tmp_path / "random", groups, schema)
    run("--data", str(tmp_path / "random"))
    assert "do not show that profiles tell merchants apart" in capsys.readouterr().out
    nothing = Fit(PreferenceWeights(schema, vocabulary()), np.inf, np.ones(6), np.ones(6))
    monkeypatch.setattr("training.wishes.training.fit", lambda *_: nothing)
    assert run("--data", str(tmp_path / "random"), "--out", "nothing") == 1
    assert "60 groups favour no phrase: there is nothing to wish for" in capsys.readouterr().err
    assert Path("nothing/picks.json").exists() and not Path("nothing/preferences").exists()


def test_too_few_groups_are_noticed_before_any_picture_is_read(
    run: Callable[..., int],
    table: Path,
    tmp_path: Path,
    schema: FeatureSchema,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.wishes.training.reward_groups", None)  # not called
    write_table(tmp_path / "few", list(read_table(table))[:9], schema)
    assert run("--data", str(tmp_path / "few")) == 1
    assert "9 groups of " in (told := capsys.readouterr().err) and "10 are the least" in told


def test_groups_whose_pictures_are_broken_do_not_count_and_nothing_is_tagged(
    run: Callable[..., int],
    table: Path,
    tmp_path: Path,
    schema: FeatureSchema,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.wishes.training.tags_by_clip", None)  # not called
    groups = list(read_table(table))[:12]
    broken = tuple(replace(candidate, image=b"no picture") for candidate in groups[0].candidates)
    write_table(tmp_path / "few", [replace(g, candidates=broken) if n < 3 else g for n, g in enumerate(groups)], schema)
    assert run("--data", str(tmp_path / "few")) == 1
    assert "9 groups of " in (told := capsys.readouterr().err) and "10 are the least" in told
