"""A release's manifest from a family: what is in use of each width, and families that do not fit."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from contract import limits
from contract.feature_schema import Feature, FeatureSchema
from contract.release import BETA_SCHEDULES, Defaults, Manifest, SizesInUse
from contract.repository import sha256
from training.common.errors import WeightsError
from training.exporting.errors import ContractError, ExportError
from training.exporting.family_contracts import write_contracts
from training.exporting.graphs import BUILDERS
from training.exporting.manifest import build_manifest, release_texts, sizes_in_use, tensor_sizes, trained_on
from training.exporting.tensor_contract import Contract, TensorSpec, read_contract
from training.models.distilled import Distilled
from training.models.family import FamilyPaths

COMMITTED = Path("model_repository")


@pytest.fixture
def contracts(family: FamilyPaths, tmp_path: Path) -> dict[str, Contract]:
    write_contracts(family, COMMITTED, tmp_path / "contracts")
    return {model: read_contract(tmp_path / "contracts", model) for model in BUILDERS}


def resized(contract: Contract, tensor: str, shape: tuple[int, ...]) -> Contract:
    def changed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, shape=shape) if spec.name == tensor else spec for spec in specs)

    return replace(contract, inputs=changed(contract.inputs), outputs=changed(contract.outputs))


def test_a_manifest_is_one_that_services_accept(family: FamilyPaths, contracts: dict[str, Contract]) -> None:
    manifest = build_manifest(7, family, contracts, {})
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert manifest.release == 7 and manifest.defaults == Defaults()
    assert manifest.noise_schedule.beta_schedule in BETA_SCHEDULES
    assert manifest.reward_logit_scale == pytest.approx(family.clip().logit_scale.exp().item(), rel=1e-3)


def test_what_is_in_use_follows_from_the_family(family: FamilyPaths) -> None:
    whole = SizesInUse(4, len(family.vocabulary().phrases), generator_user_width=24, reward_user_width=24)
    assert sizes_in_use(family) == whole
    absent = family.pipeline / "absent"
    assert sizes_in_use(replace(family, adapter=absent)) == replace(whole, generator_user_width=0)
    assert sizes_in_use(replace(family, preferences=absent)) == whole  # favours are zeros


def test_weights_are_those_of_the_parts_there_are(family: FamilyPaths, contracts: dict[str, Contract]) -> None:
    weights = build_manifest(1, family, contracts, {}).weights
    assert {"adapter/adapter.safetensors", "preferences/preferences.safetensors"} <= set(weights)
    drawing = family.backbone_files / "diffusion_pytorch_model.safetensors"
    assert weights["backbone/diffusion_pytorch_model.safetensors"] == sha256(drawing)
    assert not any(name.startswith("pipeline/unet/") for name in weights), "the backbone draws, not the pipeline's"
    less = replace(family, adapter=family.pipeline / "absent", preferences=family.pipeline / "absent")
    assert set(weights) - set(build_manifest(1, less, contracts, {}).weights) == {
        "adapter/adapter.safetensors",
        "preferences/preferences.safetensors",
    }


@pytest.mark.parametrize(("tensor", "name"), [("features", "feature_slots"), ("favours", "phrases")])
def test_a_family_beyond_the_padded_widths_is_refused_with_the_remedy(
    family: FamilyPaths, contracts: dict[str, Contract], tensor: str, name: str
) -> None:
    used = getattr(sizes_in_use(family), name)
    narrow = contracts | {"user_encoder": resized(contracts["user_encoder"], tensor, (used - 1,))}
    told = f"{name}: this family uses {used}, config.pbtxt has room for {used - 1}"
    with pytest.raises(ContractError, match=f"{told}; it needs a repository of its own .*write_contracts"):
        build_manifest(1, family, narrow, {})


def test_a_family_that_just_fits_is_not(family: FamilyPaths, contracts: dict[str, Contract]) -> None:
    tight = contracts | {"user_encoder": resized(contracts["user_encoder"], "features", (4,))}
    assert build_manifest(1, family, tight, {}).sizes.feature_slots == 4


@pytest.mark.parametrize("part", ["perfusion_rm", "adapter", "preferences"])
def test_parts_that_were_trained_with_another_schema_are_named(family: FamilyPaths, part: str, tmp_path: Path) -> None:
    config = json.loads((getattr(family, part) / "config.json").read_text())
    other = FeatureSchema((Feature("zodiac", "categorical", ("aries",)),))
    (tmp_path / part).mkdir()
    (tmp_path / part / "config.json").write_text(json.dumps(config | {"schema": other.to_json()}))
    with pytest.raises(ExportError, match=f"{part} was trained with another feature schema than .*feature_schema.json"):
        sizes_in_use(replace(family, **{part: tmp_path / part}))


def test_preferences_of_another_vocabulary_are_refused_before_anything_is_exported(
    family: FamilyPaths, tmp_path: Path
) -> None:
    (tmp_path / "phrases.json").write_text('[{"kind": "hem", "phrases": ["raw hem"]}]')
    with pytest.raises(ExportError, match="preferences was fitted with another vocabulary than .*phrases.json"):
        sizes_in_use(replace(family, phrases=tmp_path / "phrases.json"))


@pytest.mark.parametrize(
    ("model", "tensor", "shape"),
    [
        ("vae_decoder", "latents", (4, 16, 16)),
        ("reward_image", "image", (32, 32, 3)),
        ("reward_image", "embedding", (16,)),
        ("reward_text", "user", (256,)),
        ("user_encoder", "reward_image_user", (256,)),
        ("user_encoder", "generator_user", (128,)),
    ],
)
def test_contracts_that_disagree_are_refused(
    contracts: dict[str, Contract], model: str, tensor: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ContractError, match="config.pbtxt files disagree on"):
        tensor_sizes(contracts | {model: resized(contracts[model], tensor, shape)})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"sampler": "heun"}', "sampler is 'heun'"),
        ('{"num_steps": 200}', "num_steps is 200, not a number from 1 to 100"),
        ('{"guidance_scale": NaN}', "guidance_scale is nan"),
        ('{"adapter_scale": "much"}', "adapter_scale is 'much'"),
        ('{"steps": 20}', r"unknown settings \['steps'\]"),
        ('["ddim"]', "holds a list, not settings by name"),
        ("{", "cannot be read"),
    ],
)
def test_defaults_that_no_request_could_ask_for_are_refused_by_their_file(
    family: FamilyPaths, contracts: dict[str, Contract], text: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "defaults.json").write_text(text)
    with pytest.raises(WeightsError, match=f"defaults.json:? .*{told}"):
        build_manifest(1, replace(family, defaults=tmp_path / "defaults.json"), contracts, {})


def test_a_family_may_bring_its_own_defaults(
    family: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path
) -> None:
    for sampler in limits.SAMPLERS:
        own = {"sampler": sampler, "num_steps": 6}
        (tmp_path / "defaults.json").write_text(json.dumps(own))
        found = build_manifest(1, replace(family, defaults=tmp_path / "defaults.json"), contracts, {})
        assert asdict(found.defaults) == asdict(Defaults()) | own


@pytest.mark.parametrize(
    ("record", "version"),
    [
        ({"table": "s3://lake/groups", "table_version": 12, "table_digest": "12", "state": "finished"}, "12"),
        ({"table": "/data/groups", "table_version": None, "table_digest": "ab12"}, "ab12"),
    ],
)
def test_a_retrained_family_names_the_table_and_its_version(
    family: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path, record: dict[str, object], version: str
) -> None:
    retrained = replace(family, retraining=tmp_path / "retraining.json")
    retrained.retraining.write_text(json.dumps(record))
    manifest = build_manifest(1, retrained, contracts, {})
    assert manifest.trained_on == {"table": record["table"], "version": version}
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert build_manifest(1, family, contracts, {}).trained_on == {}


def test_a_distilled_family_says_at_which_guidance(
    family: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path
) -> None:
    shutil.copytree(family.backbone_files, tmp_path / "unet")
    distilled = Distilled(4.0, teacher="a", unet="b")
    distilled.write(tmp_path / "unet")
    manifest = build_manifest(1, replace(family, backbone=tmp_path / "unet"), contracts, {})
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert Distilled(**manifest.distilled) == distilled
    assert build_manifest(1, family, contracts, {}).distilled == {}


@pytest.mark.parametrize("record", [{}, {"table": "groups"}, {"table": "", "table_version": 3}])
def test_a_retraining_that_names_no_version_is_refused_by_its_file(
    family: FamilyPaths, tmp_path: Path, record: dict[str, object]
) -> None:
    (tmp_path / "retraining.json").write_text(json.dumps(record))
    with pytest.raises(ExportError, match=r"retraining\.json does not say which table"):
        trained_on(replace(family, retraining=tmp_path / "retraining.json"))


def test_the_tokenizers_cut_and_pad_by_themselves(family: FamilyPaths, contracts: dict[str, Contract]) -> None:
    texts = release_texts(family, contracts)
    assert set(texts) == {"feature_schema.json", "phrases.json", "tokenizer.json", "reward_tokenizer.json"}
    for name, own in (("tokenizer.json", family.tokenizer()), ("reward_tokenizer.json", family.reward_tokenizer())):
        tokenizer = Tokenizer.from_str(texts[name])
        for prompt in ("", "dress,red", "dress," * 200):
            ids = own(prompt, padding="max_length", truncation=True, max_length=77)["input_ids"]
            assert tokenizer.encode(prompt).ids == ids
    assert FeatureSchema.from_json(json.loads(texts["feature_schema.json"])) == family.schema()
