"""A release on disk: what is written is read, and what services could not serve is refused by name."""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from contract.errors import FeatureError, InputError, ManifestError, VocabularyError
from contract.feature_schema import FeatureSchema
from contract.release import (
    Defaults,
    Manifest,
    ModelFiles,
    NoiseSchedule,
    Sizes,
    SizesInUse,
    current_number,
    model_dir,
    read_manifest,
    read_release,
    release_dir,
)
from contract.vocabulary import Vocabulary

WORDS = Vocabulary.from_json([{"kind": "category", "phrases": ["dress", "skirt"]}])
MANIFEST = Manifest(
    release=3,
    source_commit="c084add",
    create_time="2026-01-02T03:04:05+00:00",
    weights={"reward/model.safetensors": "ab"},
    models={"denoiser": ModelFiles({"model.onnx": "cd"}, 1e-6, 1e-4, "ef")},
    sizes=Sizes(64, 4, 8, 77, 64, 32, 256, 256, 512, 96),
    in_use=SizesInUse(4, 2, 0, 24),
    noise_schedule=NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon"),
    reward_logit_scale=100.0,
    defaults=Defaults(),
)
Change = Callable[[dict[str, Any]], object]


def write(directory: Path, manifest: dict[str, Any], schema: FeatureSchema) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    schema.write(directory / "feature_schema.json")
    WORDS.write(directory / "phrases.json")
    return directory


def test_what_is_written_is_read(schema: FeatureSchema, tmp_path: Path) -> None:
    directory = write(release_dir(tmp_path, 3), MANIFEST.to_json(), schema)
    assert read_manifest(directory) == MANIFEST
    release = read_release(directory)
    assert (release.manifest, release.feature_schema, release.vocabulary) == (MANIFEST, schema, WORDS)
    assert (release.number, release.sizes) == (3, MANIFEST.sizes)
    assert (release.tokenizer_file.name, release.reward_tokenizer_file.name) == (
        "tokenizer.json",
        "reward_tokenizer.json",
    )


PARTS = {"": Manifest, "sizes": Sizes, "in_use": SizesInUse, "noise_schedule": NoiseSchedule, "defaults": Defaults}
FIELDS = [
    (part, field.name) for part, kind in PARTS.items() for field in fields(kind) if field.default_factory is MISSING
]


@pytest.mark.parametrize(("part", "name"), FIELDS)
def test_a_field_that_is_missing_is_named(part: str, name: str, schema: FeatureSchema, tmp_path: Path) -> None:
    said = MANIFEST.to_json()
    del (said[part] if part else said)[name]
    with pytest.raises(ManifestError, match=f"manifest.json: {part or 'the manifest'} lacks {name}"):
        read_release(write(tmp_path, said, schema))


@pytest.mark.parametrize("name", ["texts", "trained_on", "distilled"])
def test_a_manifest_from_before_it_said_so_is_read(name: str, schema: FeatureSchema, tmp_path: Path) -> None:
    said = MANIFEST.to_json()
    del said[name]
    assert read_release(write(tmp_path, said, schema)).manifest == MANIFEST


@pytest.mark.parametrize("part", PARTS)
def test_what_a_later_release_says_besides_is_ignored(part: str, schema: FeatureSchema, tmp_path: Path) -> None:
    said = MANIFEST.to_json()
    (said[part] if part else said)["mood"] = {"of": "the day"}
    said["models"]["denoiser"]["mood"] = "good"
    assert read_release(write(tmp_path, said, schema)).manifest == MANIFEST


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: said["in_use"].update(feature_slots=33), "feature_slots: 33 in use, the tensors hold 32"),
        (lambda said: said["in_use"].update(phrases=257), "phrases: 257 in use, the tensors hold 256"),
        (lambda said: said["in_use"].update(generator_user_width=257), "generator_user_width: 257 in use"),
        (lambda said: said["in_use"].update(reward_user_width=0), "reward_user_width is 0, not a size"),
        (lambda said: said["sizes"].update(text_tokens="77"), "text_tokens is '77', not a size"),
        (lambda said: said["noise_schedule"].update(beta_schedule="cosine"), "the noise schedule is 'cosine'"),
        (lambda said: said["noise_schedule"].update(prediction_type="v"), "prediction_type is 'v'"),
        (lambda said: said["defaults"].update(sampler="heun"), "sampler is 'heun'"),
        (lambda said: said["defaults"].update(num_steps=0), "num_steps is 0, not a number from 1 to 100"),
        (lambda said: said["defaults"].update(num_steps=2.5), "num_steps is 2.5, not a whole number"),
        (lambda said: said["defaults"].update(guidance_scale=31), "guidance_scale is 31, not a number from 0 to 30"),
        (lambda said: said["defaults"].update(adapter_scale=True), "adapter_scale is True"),
        (lambda said: said.update(reward_logit_scale=float("nan")), "reward_logit_scale is nan"),
        (lambda said: said.update(reward_logit_scale=0), "reward_logit_scale is 0"),
        (lambda said: said.update(release="3"), "release is '3', not a number from 1"),
        (lambda said: said.update(release=0), "release is 0, not a number from 1"),
        (lambda said: said.update(sizes=[64]), "sizes is a list, not fields by name"),
        (lambda said: said["models"].update(denoiser="model.onnx"), "models.denoiser is a str, not fields by name"),
        (lambda said: said["models"]["denoiser"].pop("tolerance"), "models.denoiser lacks tolerance"),
        (lambda said: said.update(models=3), "manifest.json cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    change: Change, told: str, schema: FeatureSchema, tmp_path: Path
) -> None:
    said = json.loads(json.dumps(MANIFEST.to_json()))
    change(said)
    with pytest.raises(ManifestError, match=told):
        read_manifest(write(tmp_path, said, schema))


def test_a_release_without_an_adapter_uses_nothing_of_the_generators_width(schema: FeatureSchema) -> None:
    assert Manifest.from_json(MANIFEST.to_json()).in_use.generator_user_width == 0
    with_adapter = replace(MANIFEST, in_use=replace(MANIFEST.in_use, generator_user_width=256))
    assert Manifest.from_json(with_adapter.to_json()) == with_adapter


@pytest.mark.parametrize(
    ("in_use", "told"),
    [
        ({"feature_slots": 5}, "the manifest has 5 feature_slots, its own files 4"),
        ({"phrases": 3}, "the manifest has 3 phrases, its own files 2"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    in_use: dict[str, int], told: str, schema: FeatureSchema, tmp_path: Path
) -> None:
    said = replace(MANIFEST, in_use=SizesInUse(**asdict(MANIFEST.in_use) | in_use)).to_json()
    with pytest.raises(ManifestError, match=told):
        read_release(write(tmp_path, said, schema))


@pytest.mark.parametrize(
    ("name", "error"),
    [("manifest.json", ManifestError), ("feature_schema.json", FeatureError), ("phrases.json", VocabularyError)],
)
def test_a_file_that_is_missing_or_damaged_is_named(
    name: str, error: type[InputError], schema: FeatureSchema, tmp_path: Path
) -> None:
    directory = write(tmp_path, MANIFEST.to_json(), schema)
    for damage in ("{", "[]", "\ud800".encode("utf-16", "surrogatepass"), None):
        if damage is None:
            (directory / name).unlink()
        else:
            (directory / name).write_bytes(damage.encode() if isinstance(damage, str) else damage)
        with pytest.raises(error, match=name) as caught:
            read_release(directory)
        assert "\n" not in str(caught.value)


def test_the_release_in_service_is_named_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="releases/current cannot be read"):
        current_number(tmp_path)
    (tmp_path / "releases").mkdir()
    for text, number in (("7\n", 7), ("12", 12)):
        (tmp_path / "releases" / "current").write_text(text)
        assert current_number(tmp_path) == number
    (tmp_path / "releases" / "current").write_text("the last one")
    with pytest.raises(ManifestError, match="releases/current cannot be read"):
        current_number(tmp_path)


def test_models_lie_where_triton_looks_for_their_versions(tmp_path: Path) -> None:
    assert model_dir(tmp_path, "denoiser", 7) == tmp_path / "denoiser" / "7"
    assert release_dir(tmp_path, 7) == tmp_path / "releases" / "7"
