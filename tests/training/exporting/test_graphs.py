"""The models of the tensor contract as torch modules: what a family may lack, and what of a padded width is read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contract.feature_schema import Feature, FeatureSchema
from training.common.errors import WeightsError
from training.common.storage import fingerprint
from training.exporting.graphs import (
    BUILDERS,
    SOURCES,
    PictureDecoder,
    PictureEncoder,
    RewardText,
    TextStates,
    build_denoiser,
    build_reward_image,
    build_user_encoder,
)
from training.exporting.tensor_contract import Contract, TensorSpec
from training.models.denoiser import DistilledDenoiser, PersonalisedDenoiser
from training.models.distilled import Distilled
from training.models.family import FamilyPaths, new_family

OUTPUTS = {"reward_text_user": 512, "reward_image_user": 512, "generator_user": 256, "favours": 64}
CONTRACT = Contract(
    "user_encoder",
    32,
    (TensorSpec("features", "INT64", (32,)),),
    tuple(TensorSpec(name, "FP32", (width,)) for name, width in OUTPUTS.items()),
)
PROFILES = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4], [0, 0, 0, 0]])


def padded(features: Tensor, width: int, fill: int = 0) -> Tensor:
    return torch.nn.functional.pad(features, (0, width - features.shape[1]), value=fill)


def lacking(family: FamilyPaths, *parts: str) -> FamilyPaths:
    return replace(family, **dict.fromkeys(parts, family.pipeline.parent / "absent"))


@torch.inference_mode()
def outputs_of(family: FamilyPaths, features: Tensor) -> dict[str, Tensor]:
    found = build_user_encoder(family, CONTRACT)(features)
    return dict(zip(OUTPUTS, found, strict=True))


def test_the_user_encoder_gives_every_reader_its_own_and_zeros_beyond(family: FamilyPaths) -> None:
    found = outputs_of(family, padded(PROFILES, 32))
    reward_model = family.reward_model()
    network = family.perfusion(family.backbone_unet())
    assert network is not None
    preferences = build_user_encoder(family, CONTRACT).preferences
    expected = {
        "reward_text_user": reward_model.represent("text", PROFILES),
        "reward_image_user": reward_model.represent("vision", PROFILES),
        "generator_user": network.user_encoder(PROFILES),
        "favours": preferences(PROFILES),
    }
    for name, width in OUTPUTS.items():
        used = expected[name].shape[1]
        assert found[name].shape == (3, width) and 0 < used < width
        assert torch.equal(found[name][:, :used], expected[name]) and not found[name][:, used:].any()


@pytest.mark.parametrize(
    ("lacks", "silent"),
    [
        (("adapter",), {"generator_user"}),
        (("preferences",), {"favours"}),
        (("adapter", "preferences"), {"generator_user", "favours"}),
    ],
)
def test_of_what_a_family_lacks_the_user_encoder_gives_zeros(
    family: FamilyPaths, lacks: tuple[str, ...], silent: set[str]
) -> None:
    whole, found = (outputs_of(paths, padded(PROFILES, 32)) for paths in (family, lacking(family, *lacks)))
    for name in OUTPUTS:
        assert found[name].shape == whole[name].shape and found[name].dtype == torch.float32
        assert not found[name].any() if name in silent else torch.equal(found[name], whole[name])


def test_features_beyond_those_in_use_are_not_read(family: FamilyPaths) -> None:
    expected = outputs_of(family, padded(PROFILES, 32))
    for garbage in (1, 99, -7, 2**40):
        found = outputs_of(family, padded(PROFILES, 32, fill=garbage))
        assert all(torch.equal(found[name], expected[name]) for name in OUTPUTS)


def test_preferences_of_another_schema_are_refused(family: FamilyPaths, tmp_path: Path) -> None:
    schema = family.schema()
    more = FeatureSchema((*schema.features, Feature("region", "categorical", ("north",))), schema.version)
    more.write(tmp_path / "feature_schema.json")
    with pytest.raises(WeightsError, match="preferences was fitted with another feature schema"):
        build_user_encoder(
            replace(lacking(family, "adapter"), feature_schema=tmp_path / "feature_schema.json"), CONTRACT
        )


@torch.inference_mode()
@pytest.mark.parametrize("model", ["reward_text", "reward_image"])
def test_a_user_beyond_the_width_in_use_is_not_read(family: FamilyPaths, model: str) -> None:
    if model == "reward_text":
        tower = RewardText(family.reward_model())
        given = torch.randint(0, 200, (3, 77))
    else:
        tower = build_reward_image(family)
        given = torch.randint(0, 256, (3, 16, 16, 3)).to(torch.uint8)
    user = torch.randn(3, 24)
    plain, padded_user, odd = (
        tower(given, torch.cat([user, beyond], dim=1))
        for beyond in (user[:, :0], torch.zeros(3, 488), torch.full((3, 488), 1e6))
    )
    assert torch.equal(plain, padded_user) and torch.equal(plain, odd)
    assert not torch.allclose(plain, tower(given, torch.randn(3, 24)))
    torch.testing.assert_close(plain.norm(dim=1), torch.ones(3))


def test_without_an_adapter_the_denoiser_is_the_plain_unet(family: FamilyPaths) -> None:
    for paths, personal in ((family, True), (lacking(family, "adapter"), False)):
        denoiser = build_denoiser(paths)
        assert isinstance(denoiser, PersonalisedDenoiser) and (denoiser.network is not None) is personal


def test_text_states_are_the_pipelines(family: FamilyPaths) -> None:
    encoder = family.text_encoder()
    ids = torch.randint(0, 200, (2, 77))
    assert torch.equal(TextStates(encoder)(ids), encoder(ids)[0])


@torch.inference_mode()
def test_pictures_become_latents_at_the_unets_scale_and_pictures_again(family: FamilyPaths) -> None:
    vae = family.vae()
    images = torch.randint(0, 256, (2, 16, 16, 3)).to(torch.uint8)
    latents = PictureEncoder(vae)(images)
    pixels = images.permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(latents, vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor)
    again = PictureDecoder(vae)(latents)
    expected = vae.decode(latents / vae.config.scaling_factor).sample.permute(0, 2, 3, 1)
    assert again.dtype == torch.uint8 and again.shape == images.shape
    assert (again - (expected.clamp(-1, 1) + 1) * 127.5).abs().max() <= 0.51
    for far, edge in ((10.0, 255), (-10.0, 0)):  # beyond what a picture shows: clamped, and not wrapped around
        vae.decoder.conv_out.bias.fill_(far)
        assert (PictureDecoder(vae)(latents) == edge).all()


def test_what_a_model_depends_on_follows_from_the_parts_there_are(family: FamilyPaths) -> None:
    assert set(SOURCES) == set(BUILDERS)
    assert family.adapter in SOURCES["denoiser"](family) and family.preferences in SOURCES["user_encoder"](family)
    less = lacking(family, "adapter", "preferences")
    assert all(path.exists() for model in BUILDERS for path in SOURCES[model](less))


@torch.inference_mode()
def test_a_distilled_unet_becomes_a_denoiser_of_one_pass_that_knows_the_empty_prompt(
    family: FamilyPaths, tmp_path: Path
) -> None:
    with new_family(family, {}, tmp_path / "student") as places:
        Distilled(4.0, "", fingerprint(family.unet())).write(places.pipeline / "unet")
    student = FamilyPaths.under(tmp_path / "student")
    denoiser = build_denoiser(student)
    assert isinstance(denoiser, DistilledDenoiser) and denoiser.distilled == student.distilled()
    text, user = torch.randn(2, 77, 12), torch.randn(2, 256)
    ones, t, z = torch.ones(2, 1), torch.full((2, 1), 500), torch.randn(2, 4, 8, 8)
    eps = denoiser(z, t, text, denoiser.no_text.expand(2, -1, -1), user, 4 * ones, ones)
    with_reference = build_denoiser(family)(z, t, text, text, user, ones, ones)  # no guidance: the conditional half
    torch.testing.assert_close(eps, with_reference, atol=1e-5, rtol=1e-5)
    texts = {student.pipeline / "text_encoder", student.pipeline / "tokenizer"}
    assert texts <= set(SOURCES["denoiser"](student)) and not texts & set(SOURCES["denoiser"](family))
