"""Teaching a user prompt from a table: CLIP tells what candidates show, picks who likes it; nothing is done twice."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contract.feature_schema import Feature, FeatureSchema
from lab.market.attributes import complete, to_indices
from lab.market.drawing import draw
from lab.market.prompts import PHRASE_OF, vocabulary
from training.data.groups import GroupTensors
from training.data.table import Candidate, Group, read_table, write_table
from training.generator.user_prompt import UserPromptTraining
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import TINY, FamilyPaths
from training.wishes import preferences as keywords
from training.wishes.tagging import ABSENT, by_clip
from training.wishes.train import main

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
        candidates = tuple(Candidate(f"{n}-{k}", k == picked, _png(g, rng)) for k, g in enumerate(garments))
        prompt = "a nice one" if n == 7 else f"dress,{PHRASE_OF['colour', garments[0]['colour']]}"
        groups.append(Group(f"g{n}", f"u{n}", prompt, candidates, {"style": style}))
    write_table(tmp_path / "table", groups, schema)
    return tmp_path / "table"


def _png(garment: dict[str, str], rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(garment, rng)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(family: FamilyPaths, tmp_path: Path) -> Path:
    """A family as small as it gets with the published one's CLIP and phrases of its own."""
    own = tmp_path / "family"
    own.mkdir()
    for part in family.reward.parent.iterdir():
        if part not in (family.reward, family.phrases):
            (own / part.name).symlink_to(part)
    (own / "reward").symlink_to(REWARD)
    vocabulary().write(own / "phrases.json")
    return own


@pytest.fixture
def run(table: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on that table."""

    def call(*more: str) -> int:
        options = {"--data": str(table), "--out": "out", "--weights": str(root), "--steps": "3"}
        options |= dict(zip(more[::2], more[1::2], strict=True))
        monkeypatch.setattr(sys, "argv", ["train_user_prompt", *(word for pair in options.items() for word in pair)])
        try:
            return main()
        except SystemExit as refused:  # the parser's
            return int(refused.code or 0)

    return call


def test_clip_tells_what_pictures_show() -> None:
    """The published family's; it has never seen a tag of these drawings."""
    rng = np.random.default_rng(5)
    garments = [complete({}, rng) for _ in range(120)]
    images = np.stack([draw(garment, rng) for garment in garments]).reshape(40, 3, 64, 64, 3)
    family = FamilyPaths.under(TINY)
    features, ids = np.zeros((40, family.schema().n_slots), np.int64), np.zeros((40, 1, 77), np.int64)
    groups = GroupTensors(family.schema(), features, np.zeros((40, 3), bool), ids, images=images)
    tags = by_clip(groups, family, vocabulary()).reshape(120, -1)
    shown = np.stack([to_indices(garment) for garment in garments])
    right = ((tags == shown) & (shown != ABSENT)).sum(0) / (shown != ABSENT).sum(0)
    assert right.min() > 0.8 and right.mean() > 0.95, right
    skirts = shown[:, 0] == to_indices({"category": "skirt"})[0]
    sleeve = [kind.name for kind in vocabulary().kinds].index("sleeve")
    assert (tags[skirts & (tags[:, 0] == shown[:, 0]), sleeve] == ABSENT).all()


def _weights(out: str) -> bytes:
    (path,) = (Path(out) / "adapter").glob("*.safetensors")
    return path.read_bytes()


def test_it_leaves_an_adapter_and_goes_on_from_what_is_done(
    run: Callable[..., int], family: FamilyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    told = capsys.readouterr().out
    assert f"1 of {N} prompts name no category" in told and "by profile" in told and "out/adapter" in told
    assert json.loads(Path("out/picks.json").read_text())["held_out_groups"] == N // 10
    network = PersonalisedAdaptiveNetwork.load(Path("out/adapter"), family.backbone_unet(), family.schema())
    assert network.user_prompt is not None
    kept = {path: path.stat().st_mtime_ns for path in Path("build/prepared").glob("*-*.np?")}
    monkeypatch.setattr("training.wishes.train.by_clip", None)  # not called again
    assert len(kept) == 2 and run("--out", "other") == 0
    told = capsys.readouterr().out
    with monkeypatch.context() as again:
        again.setattr("training.wishes.train.fit", None)  # what was predicted is not computed again either
        assert run() == 0
    said = [line for line in told.splitlines() if "held-out groups" in line]
    assert said and said[0] in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert _weights("other") == _weights("out")
    assert run("--seed", "1") == 1
    assert "seed was 0 and is 1" in capsys.readouterr().err
    (model,) = Path("build/prepared").glob("keywords-*")
    model.write_bytes(b"damaged")
    assert run() == 1
    assert f"{model} cannot be read" in capsys.readouterr().err


def test_a_killed_run_ends_in_the_same_adapter(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--out", "whole", "--steps", "4") == 0
    real = UserPromptTraining.step

    def killed(training: UserPromptTraining, n: int) -> dict[str, float]:
        if n == 2:
            raise KeyboardInterrupt
        return real(training, n)

    monkeypatch.setattr(UserPromptTraining, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--out", "parts", "--steps", "4")
    monkeypatch.setattr(UserPromptTraining, "step", real)
    assert run("--out", "parts", "--steps", "4") == 0
    assert _weights("parts") == _weights("whole")


def test_a_begun_run_keeps_its_phrases_and_a_vocabulary_needs_choices(
    run: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    entries = vocabulary().to_json()
    alone = [{"kind": "belt", "phrases": ["belted"]}]
    for found, message in (
        ([entry for entry in entries if entry["kind"] != "hair"], "phrases was"),
        (entries[:1], "no kind after the category has two phrases"),
        (entries[:1] + alone, "no kind after the category has two phrases"),
        (entries[1:], "only_with has"),  # a sleeve needs a category, and there is none
        ([{"kind": "category", "phrases": ["hat", "shoe"]}, entries[1]], "names a category of"),
        ([*entries, {"kind": "more", "phrases": ["very " * 80, "less"]}], "a prompt has 77"),
    ):
        (root / "phrases.json").write_text(json.dumps(found))
        assert run() == 1
        assert message in capsys.readouterr().err


def test_two_kinds_are_enough(run: Callable[..., int], root: Path) -> None:
    entries = vocabulary().to_json()
    (root / "phrases.json").write_text(json.dumps([entries[0], entries[-1]]))
    assert run() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--steps", "0"), "steps is 0, not from 1"),
        (("--lr", "nan"), "lr is nan"),
        (("--embed-dim", "100000"), "embed_dim is 100000, not from 1 to 1024"),
        (("--seed", "-1"), "seed is -1"),
        (("--data", "absent"), "absent does not exist"),
        (("--data", "."), ". is no table of groups"),
        (("--unet", "absent"), "absent"),
        (("--weights", "absent"), "absent/pipeline is missing"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_told(
    run: Callable[..., int],
    arguments: tuple[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.wishes.train.reward_groups", None)  # not called
    assert run(*arguments) == 1
    assert told in capsys.readouterr().err


def test_a_table_of_other_features_is_refused(
    run: Callable[..., int], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = FeatureSchema((Feature("zodiac", "categorical", ("aries",)),))
    groups = [replace(group, features={}) for group in read_table(table)]
    write_table(tmp_path / "other", groups, other)
    assert run("--data", str(tmp_path / "other")) == 1
    assert "feature_schema.json differ" in capsys.readouterr().err


def test_picks_at_random_are_said_to_be_so(
    run: Callable[..., int],
    schema: FeatureSchema,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(1)
    groups = []
    for n in range(N):
        pictures = [_png(complete({"category": "hoodie"}, rng), rng) for _ in range(K)]
        picked, style = int(rng.integers(K)), str(rng.choice(["minimalist", "luxury"]))
        candidates = tuple(Candidate(f"{n}-{k}", k == picked, png) for k, png in enumerate(pictures))
        groups.append(Group(f"g{n}", "u", "hoodie", candidates, {"style": style}))
    write_table(tmp_path / "random", groups, schema)
    run("--data", str(tmp_path / "random"))
    assert "do not show that profiles tell users apart" in capsys.readouterr().out
    blank = keywords.KeywordModel(torch.zeros(50, 40), (3,), vocabulary())
    monkeypatch.setattr("training.wishes.train.fit", lambda *_: blank)
    monkeypatch.setattr("training.wishes.train.held_out_losses", lambda *_: np.ones(6))
    for made in Path("build/prepared").glob("keywords-*"):
        made.unlink()
    assert run("--data", str(tmp_path / "random"), "--out", "nothing") == 1
    assert f"{N} groups favour no phrase: there is nothing to teach" in capsys.readouterr().err
