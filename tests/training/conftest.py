"""Backbones of the real architectures, as small as they get, with random weights."""

from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from contract.feature_schema import Feature, FeatureSchema
from lab.market.prompts import PHRASE_OF, vocabulary
from tests.training.loud import make_loud
from training.common.noise import noise_schedule
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths, hush_libraries, save_pipeline, save_reward_backbone
from training.models.frozen_unet import share_text
from training.models.reward_model import PerFusionRM
from training.wishes.preferences import PreferenceWeights, n_entries, rows_of


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_no_progress_bars() -> None:
    """These models are too small to share, and threads waiting for one another cost more."""
    torch.set_num_threads(1)
    hush_libraries()


@pytest.fixture(scope="session", autouse=True)
def _logs_without_curves() -> Iterator[None]:
    """The picture of a log costs more than a training of few steps; tests/training/common/test_loop.py draws it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.common.loop.plot_log", lambda log, picture: picture.touch())
        yield


@pytest.fixture(scope="session")
def schema() -> FeatureSchema:
    return FeatureSchema(
        (
            Feature("style", "categorical", ("minimalist", "luxury")),
            Feature("audience", "multi", ("teen", "office", "party"), max_values=2),
            Feature("years_open", "numeric", min=0, max=50, boundaries=(1, 3, 6)),
        )
    )


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return _tiny_unet()


@pytest.fixture
def make_unet() -> Callable[..., UNet2DConditionModel]:
    return _tiny_unet


def _tiny_unet(**overrides: object) -> UNet2DConditionModel:
    options: dict[str, object] = {
        "sample_size": 8,
        "block_out_channels": (8, 8, 16, 16),
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**(options | overrides)).eval().requires_grad_(False)
    share_text(unet)
    return unet


@pytest.fixture
def clip() -> CLIPModel:
    return _tiny_clip()


def _tiny_clip(vocab_size: int = 50, eos_token_id: int = 49) -> CLIPModel:
    torch.manual_seed(0)
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = tower | {
        "vocab_size": vocab_size,
        "hidden_size": 12,
        "eos_token_id": eos_token_id,
        "bos_token_id": eos_token_id - 1,
    }
    vision = tower | {"hidden_size": 16, "image_size": 32, "patch_size": 8, "num_hidden_layers": 3}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return CLIPModel(config).eval()


@pytest.fixture
def text_encoder() -> CLIPTextModel:
    """Of fifty tokens; 1 ends a prompt and pads it."""
    return _tiny_text(50, 0, 1)


def _tiny_text(vocab_size: int, bos_token_id: int, eos_token_id: int) -> CLIPTextModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=vocab_size, bos_token_id=bos_token_id, eos_token_id=eos_token_id, **shape)
    return CLIPTextModel(config).eval()


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory, schema: FeatureSchema) -> FamilyPaths:
    """A whole family on disk, every part as small as it gets."""
    paths = FamilyPaths.under(tmp_path_factory.mktemp("family"))
    tokenizer = CLIPTokenizer(model_max_length=77).train_new_from_iterator([",".join(PHRASE_OF.values())], 700)
    unet, clip = _tiny_unet(), _tiny_clip(len(tokenizer), tokenizer.eos_token_id)
    make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema)).save(paths.adapter)
    make_loud(PerFusionRM(clip, schema)).save(paths.perfusion_rm)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=16,
        scaling_factor=0.5,
    )
    text = _tiny_text(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    save_pipeline(paths.pipeline, unet, vae, text, tokenizer, noise_schedule())
    save_reward_backbone(paths.reward, clip, tokenizer, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    schema.write(paths.feature_schema)
    vocabulary().write(paths.phrases)
    torch.manual_seed(0)
    weights = torch.randn(n_entries(rows_of(schema)), len(vocabulary().phrases))
    PreferenceWeights(schema, vocabulary(), weights).save(paths.preferences)
    return paths
