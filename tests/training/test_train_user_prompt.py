"""Teaching a user prompt from a table: CLIP tells what candidates show, picks who likes it; nothing is done twice."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.groups import GroupTensors
from training.data.table import Candidate, Group, write_table
from training.family import TINY, FamilyPaths
from training.market.attributes import complete, to_indices
from training.market.drawing import draw
from training.market.prompts import PHRASE_OF, vocabulary
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.feature_schema import FeatureSchema
from training.tagging import ABSENT, by_clip
from training.train_user_prompt import main

N, K = 60, 3


@pytest.fixture
def table(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drawings of which minimalists pick the plainest backdrop and the others whatever comes first."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    groups = []
    for n in range(N):
        garments = [complete({"category": "dress"}, rng) for _ in range(K)]
        style = str(rng.choice(["minimalist", "luxury"]))
        picked = max(range(K), key=lambda k: garments[k]["backdrop"] == "studio") if style == "minimalist" else 0
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
def run(table: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on that table."""

    def call(*more: str) -> int:
        options = {"--data": str(table), "--out": "out", "--weights": str(family.reward.parent), "--steps": "3"}
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


def test_it_leaves_an_adapter_and_goes_on_from_what_is_done(
    run: Callable[..., int], family: FamilyPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    told = capsys.readouterr().out
    assert f"1 of {N} prompts name no category" in told and "by profile" in told and "out/adapter" in told
    network = PersonalisedAdaptiveNetwork.load(Path("out/adapter"), family.backbone_unet(), family.schema())
    assert network.user_prompt is not None
    (weights,) = Path("out/adapter").glob("*.safetensors")
    first = weights.read_bytes()
    made = Path("out/keywords.npz").stat().st_mtime_ns
    assert run() == 0
    assert Path("out/keywords.npz").stat().st_mtime_ns == made and "by profile" not in capsys.readouterr().out
    assert weights.read_bytes() == first
    assert run("--seed", "1") == 1
    assert "seed" in capsys.readouterr().err
    Path("out/keywords.npz").write_bytes(b"damaged")
    assert run() == 1
    assert "out/keywords.npz cannot be read" in capsys.readouterr().err


def test_other_phrases_are_not_taught_into_a_begun_run(
    run: Callable[..., int], family: FamilyPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--out", "again") == 0
    other = tmp_path / "family"
    other.mkdir()
    for part in family.reward.parent.iterdir():
        (other / part.name).symlink_to(part)
    (other / "phrases.json").unlink()
    entries = vocabulary().to_json()
    (other / "phrases.json").write_text(json.dumps(entries[:-1]))
    assert run("--out", "again", "--weights", str(other)) == 1
    assert "wishing" in capsys.readouterr().err
    (other / "phrases.json").write_text(json.dumps(entries[:1]))
    assert run("--out", "new", "--weights", str(other)) == 1
    assert "one kind, the category" in capsys.readouterr().err
    (other / "phrases.json").write_text(json.dumps(entries[1:]))
    assert run("--out", "new", "--weights", str(other)) == 1
    assert "only_with has" in capsys.readouterr().err  # a sleeve needs a category, and there is none


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--steps", "0"), "steps is 0, at least 1"),
        (("--lr", "nan"), "lr is nan"),
        (("--embed-dim", "0"), "embed_dim is 0"),
        (("--seed", "-1"), "seed is -1"),
        (("--data", "absent"), "absent is no table of groups"),
        (("--unet", "absent"), "absent"),
        (("--weights", "absent"), "absent/pipeline is missing"),
    ],
)
def test_bad_arguments_are_named(
    run: Callable[..., int], arguments: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 1
    assert told in capsys.readouterr().err


def test_picks_that_profiles_do_not_tell_apart_are_said_to_be_so(
    run: Callable[..., int], schema: FeatureSchema, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everybody picks at random, and nobody's profile is known."""
    rng = np.random.default_rng(1)
    groups = []
    for n in range(40):
        pictures = (_png(complete({"category": "hoodie"}, rng), rng) for _ in range(K))
        candidates = tuple(Candidate(f"{n}-{k}", k == rng.integers(K), png) for k, png in enumerate(pictures))
        groups.append(Group(f"g{n}", "u", "hoodie", candidates, {}))
    write_table(tmp_path / "random", groups, schema)
    assert run("--data", str(tmp_path / "random")) == 0
    assert "profiles do not tell these picks apart" in capsys.readouterr().out
