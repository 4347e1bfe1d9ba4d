"""open_clip models: the same function as the transformers CLIP they came from, and published files."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from training.common.errors import TopologyError, WeightsError
from training.reward.baselines.open_clip_scores import OpenClipScore, from_transformers, unlock
from training.reward.baselines.pickscore import PickScore

SMALLEST = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 48, (2, 77), generator=generator)
    ids[0, 5:], ids[1, 9:] = 49, 49  # the end, and padding with it
    return torch.randn(2, 3, 3, 32, 32, generator=generator), ids


def test_a_carried_over_clip_is_the_same_function(clip, batch) -> None:
    carried = OpenClipScore(from_transformers(clip).eval())
    torch.testing.assert_close(carried(*batch), PickScore(clip)(*batch), rtol=1e-4, atol=1e-5)


def test_hpsv2_unlocks_the_last_layers_only(clip) -> None:
    carried = from_transformers(clip)
    unlock(carried, vision_layers=1, text_layers=1)
    trains = {name for name, p in carried.named_parameters() if p.requires_grad}
    layers = {name.split("resblocks.")[0] + name.split("resblocks.")[1][0] for name in trains if "resblocks" in name}
    assert layers == {"visual.transformer.2", "transformer.1"}  # of three and two
    rest = {name for name in trains if "resblocks" not in name}
    assert rest == {
        "visual.ln_post.weight", "visual.ln_post.bias", "visual.proj",
        "ln_final.weight", "ln_final.bias", "text_projection",
    }  # fmt: skip


def test_a_published_file_loads_wrapped_as_it_is(tmp_path: Path, batch) -> None:
    (tmp_path / "Smallest-test.json").write_text(json.dumps(SMALLEST))
    open_clip.add_model_config(tmp_path / "Smallest-test.json")
    torch.manual_seed(3)
    original = open_clip.create_model("Smallest-test", pretrained=None)
    torch.save({"state_dict": {f"module.{n}": v for n, v in original.state_dict().items()}}, tmp_path / "hps.pt")
    loaded = OpenClipScore.from_published(tmp_path / "hps.pt", "Smallest-test")
    torch.testing.assert_close(loaded(*batch), OpenClipScore(original)(*batch))
    torch.save({"state_dict": {"visual.proj": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt is for another model; missing"):
        OpenClipScore.from_published(tmp_path / "other.pt", "Smallest-test")


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="knows no 'ViT-Z'"):
        OpenClipScore.from_published(tmp_path / "x.pt", "ViT-Z")
