"""A release as clients are told of it, and the names that the API and the contract have for one thing."""

from dataclasses import replace

from perfusion.v1 import group_pb2, release_pb2

from contract import limits
from contract.feature_schema import Feature, FeatureSchema
from contract.labels import Labels
from contract.vocabulary import Vocabulary
from services.generation.messages import SAMPLER_OF, SCHEDULER_OF, release_message
from services.runtime.images import ImageLimits
from tests.services.market import SCHEMA, VOCABULARY, release_of

LIMITS = ImageLimits(max_bytes=1000, max_pixels=2000)


def test_every_sampler_has_a_name_in_the_api() -> None:
    assert set(SCHEDULER_OF) == set(limits.SAMPLERS)
    assert set(SAMPLER_OF) == set(group_pb2.Scheduler.values()) - {group_pb2.SCHEDULER_UNSPECIFIED}


def test_a_releases_features_say_what_a_profile_may_hold() -> None:
    style, audience, years = release_message(release_of(1), LIMITS).features
    assert style == release_pb2.ProfileFeature(
        name="style",
        kind=release_pb2.FEATURE_KIND_CATEGORICAL,
        vocabulary=["minimalist", "luxury", "boho"],
    )
    assert (audience.kind, audience.max_values) == (release_pb2.FEATURE_KIND_MULTI, 3)
    assert (years.kind, years.min, years.max) == (release_pb2.FEATURE_KIND_NUMERIC, 0, 50)
    assert years.HasField("min") and not style.HasField("min") and not style.HasField("max")


def test_a_number_without_limits_has_none() -> None:
    schema = FeatureSchema((*SCHEMA.features, Feature("sales", "numeric", min=0, boundaries=(10,))))
    *_, sales = release_message(replace(release_of(1), feature_schema=schema), LIMITS).features
    assert sales.min == 0 and sales.HasField("min") and not sales.HasField("max")


def test_a_releases_phrases_stand_in_the_order_of_favours() -> None:
    kinds = release_message(release_of(1), LIMITS).phrase_kinds
    assert [(kind.kind, phrase) for kind in kinds for phrase in kind.phrases] == VOCABULARY.phrases
    assert [[list(needed.phrases) for needed in kind.only_with] for kind in kinds] == [[], [["dress"]], []]


def test_a_release_says_what_its_words_are_called_in_other_languages() -> None:
    style, *others = SCHEMA.features
    category, *kinds = VOCABULARY.kinds
    of_style, of_category = Labels("zh", "风格", ("极简", "奢华", "波西米亚")), Labels("de", "Teil", ("Kleid", "Rock"))
    release = replace(
        release_of(1),
        feature_schema=FeatureSchema((replace(style, labels=(of_style,)), *others)),
        vocabulary=Vocabulary((replace(category, labels=(of_category,)), *kinds)),
    )
    info = release_message(release, LIMITS)
    assert list(info.features[0].labels) == [
        release_pb2.Labels(language="zh", name="风格", words=["极简", "奢华", "波西米亚"])
    ]
    assert list(info.phrase_kinds[0].labels) == [
        release_pb2.Labels(language="de", name="Teil", words=["Kleid", "Rock"])
    ]
    assert not any(feature.labels for feature in info.features[1:])
    assert [[each.name for each in kind.labels] for kind in info.phrase_kinds] == [["Teil"], ["袖型"], ["细节"]]


def test_a_release_says_its_defaults_and_the_limits_of_requests() -> None:
    info = release_message(release_of(3), LIMITS)
    assert (info.release, info.create_time.ToJsonString()) == (3, "2026-01-02T03:04:05Z")
    assert list(info.schedulers) == [SCHEDULER_OF[name] for name in limits.SAMPLERS]
    assert info.defaults == release_pb2.GenerationDefaults(
        num_candidates=5,
        num_steps=20,
        guidance_scale=4.0,
        adapter_scale=1.0,
        scheduler=group_pb2.SCHEDULER_DDIM,
        strength=0.6,
        variety=0.15,
    )
    assert info.limits == release_pb2.RequestLimits(
        user_id_chars=128,
        prompt_chars=1000,
        candidates=16,
        steps=100,
        guidance_scale=30.0,
        adapter_scale=2.0,
        refused_wishes=64,
        reference_image_bytes=1000,
        reference_image_pixels=2000,
        page_size=100,
        suggestions=50,
        variety=2.0,
    )
