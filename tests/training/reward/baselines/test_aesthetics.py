"""The aesthetic predictor: linear on the normalised embedding, and its published format."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from training.common.errors import WeightsError
from training.reward.baselines.aesthetics import Aesthetics, RatingHead

PIXELS = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = torch.zeros(2, 77, dtype=torch.long)


def test_it_rates_the_normalised_embedding(clip) -> None:
    model = Aesthetics(clip).eval()
    pooled = clip.vision_model(pixel_values=PIXELS.flatten(0, 1)).pooler_output
    embeddings = normalize(clip.visual_projection(pooled), dim=-1)
    torch.testing.assert_close(model(PIXELS, IDS), model.head(embeddings).unflatten(0, (2, 3)))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f"head.layers.{place}.{part}" for place in (0, 2, 4, 6, 7) for part in ("weight", "bias")
    }


def test_the_head_is_affine() -> None:
    head = RatingHead(8).eval()
    a, b = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(head(a) + head(b) - head(torch.zeros(8)), head(a + b))


def test_the_published_head_loads(clip, tmp_path: Path) -> None:
    published = RatingHead(8).state_dict()
    torch.save(published, tmp_path / "linearMSE.pth")
    model = Aesthetics.from_published(clip, tmp_path / "linearMSE.pth")
    assert all(torch.equal(value, published[name]) for name, value in model.head.state_dict().items())


def test_a_head_for_another_clip_is_refused_by_name(clip, tmp_path: Path) -> None:
    torch.save(RatingHead(768).state_dict(), tmp_path / "linearMSE.pth")
    with pytest.raises(WeightsError, match=r"layers\.0\.weight is \(1024, 768\), expected \(1024, 8\)"):
        Aesthetics.from_published(clip, tmp_path / "linearMSE.pth")
