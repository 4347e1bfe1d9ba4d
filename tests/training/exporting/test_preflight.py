"""What is refused before the first graph is made: by configuration files, and by one run of every model in torch."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from contract.errors import InputError
from training.common.storage import write_origin
from training.exporting.family_contracts import write_contracts
from training.exporting.graphs import BUILDERS
from training.exporting.preflight import check_family, check_model
from training.exporting.tensor_contract import Contract, read_contract
from training.models.family import FamilyPaths

COMMITTED = Path("model_repository")


@pytest.fixture
def own(family: FamilyPaths, tmp_path: Path) -> FamilyPaths:
    """A copy to spoil, in a folder with a space."""
    root = tmp_path / "a family"
    shutil.copytree(family.pipeline.parent, root)
    return FamilyPaths.under(root)


@pytest.fixture
def contracts(family: FamilyPaths, tmp_path: Path) -> dict[str, Contract]:
    write_contracts(family, COMMITTED, tmp_path / "a repository")
    return {model: read_contract(tmp_path / "a repository", model) for model in BUILDERS}


def spoil(path: Path, **values: Any) -> None:
    """Changes a configuration; `text_config__vocab_size` is a value inside `text_config`."""
    config = json.loads(path.read_text())
    for name, value in values.items():
        *outer, last = name.split("__")
        inside = config
        for part in outer:
            inside = inside[part]
        inside[last] = value
    path.write_text(json.dumps(config))


def test_parts_that_were_trained_with_others_are_named(
    own: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path
) -> None:
    """Whatever an older release holds: a tokenizer, for one, is in no graph."""
    for part, name in ((own.preferences, "backbone"), (own.perfusion_rm, "tokenizer"), (own.reward, "tokenizer")):
        write_origin(part, own.reward_origin() | {name: "another"})
        with pytest.raises(InputError, match=f"{part.name} was trained on the {name} another"):
            check_family(own, tmp_path / "a repository", contracts)
        write_origin(part, {})
    write_origin(own.adapter, own.generator_origin() | {"vae": "another"})
    with pytest.raises(InputError, match="adapter was trained on the vae another"):
        check_family(own, tmp_path / "a repository", contracts)


@pytest.mark.parametrize("part", ["perfusion_rm", "preferences", "adapter"])
@pytest.mark.parametrize(
    ("content", "told"), [("[]", "holds a list"), ("{}", "'schema' is missing"), ("{", "Expecting")]
)
def test_a_configuration_that_says_too_little_is_named(
    own: FamilyPaths, tmp_path: Path, part: str, content: str, told: str
) -> None:
    (own.pipeline.parent / part / "config.json").write_text(content)
    with pytest.raises(InputError, match=f"a family/{part}/config.json .*{told}"):
        write_contracts(own, COMMITTED, tmp_path / "a repository")


def test_a_family_that_fits_passes(family: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path) -> None:
    check_family(family, tmp_path / "a repository", contracts)
    for model in BUILDERS:
        check_model(model, family, contracts[model])


@pytest.mark.parametrize(
    ("file", "values", "told"),
    [
        ("pipeline/unet", {"cross_attention_dim": 16}, "cross_attention_dim is 16, but the text_encoder's hidden_size"),
        ("pipeline/unet", {"in_channels": 3}, "in_channels is 3, but the vae's latent_channels in .* is 4"),
        ("pipeline/text_encoder", {"vocab_size": 99}, "vocab_size is 99, but its tokenizer knows ids up to"),
        ("pipeline/text_encoder", {"max_position_embeddings": 64}, "max_position_embeddings is 64; prompts have 77"),
        ("reward", {"text_config__vocab_size": 99}, "vocab_size is 99, but its tokenizer knows ids up to"),
        ("reward", {"text_config__eos_token_id": 7}, "reads texts at token 7, their end in its tokenizer is"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_named_with_the_remedy(
    own: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path, file: str, values: dict[str, Any], told: str
) -> None:
    spoil(own.pipeline.parent / file / "config.json", **values)
    with pytest.raises(InputError, match=f"a family/{file}/config.json: .*{told}.*: take "):
        check_family(own, tmp_path / "a repository", contracts)


@pytest.mark.parametrize("part", ["pipeline/unet", "pipeline/vae", "pipeline/text_encoder", "reward", "perfusion_rm"])
def test_a_configuration_that_cannot_be_read_is_named(
    own: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path, part: str
) -> None:
    for spoilt in ("{", "{}"):
        (own.pipeline.parent / part / "config.json").write_text(spoilt)
        if (part, spoilt) not in {("pipeline/text_encoder", "{}"), ("reward", "{}")}:  # the library fills these
            with pytest.raises(InputError, match=str(own.pipeline.parent)):
                check_family(own, tmp_path / "a repository", contracts)


@pytest.mark.parametrize(
    ("model", "old", "new", "told"),
    [
        ("text_encoder", "dims: 12", "dims: 13", r"says hidden FP32\[77,13\], this family has hidden FP32\[77,12\]"),
        ("vae_decoder", '"latents"', '"z"', "its tensors differ from the model's in latents, z"),
    ],
)
def test_a_contract_of_other_tensors_is_named_with_the_remedy(
    family: FamilyPaths, contracts: dict[str, Contract], tmp_path: Path, model: str, old: str, new: str, told: str
) -> None:
    config = tmp_path / "a repository" / model / "config.pbtxt"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    contracts[model] = read_contract(tmp_path / "a repository", model)
    with pytest.raises(InputError, match=f"a repository/{model}/config.pbtxt:? {told}; .*write_contracts"):
        check_family(family, tmp_path / "a repository", contracts)


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("denoiser", "adapter/adapter.safetensors"),
        ("vae_encoder", "pipeline/vae/diffusion_pytorch_model.safetensors"),
        ("user_encoder", "preferences/preferences.safetensors"),
        ("reward_text", "reward/model.safetensors"),
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut", "huge"])
def test_weights_that_cannot_be_used_are_named(
    own: FamilyPaths, contracts: dict[str, Contract], model: str, file: str, how: str
) -> None:
    path = own.pipeline.parent / file
    whole = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    if how == "huge":  # each weight is finite, the outputs are not
        path.write_bytes(whole)
        tensors = load_file(path)
        save_file({name: tensor.float() * 0 + 3e38 for name, tensor in tensors.items()}, path)
    with pytest.raises(InputError, match=str(path.parent)):
        check_model(model, own, contracts[model])


def test_sizes_that_only_a_run_shows_are_refused_with_the_files(
    own: FamilyPaths, contracts: dict[str, Contract]
) -> None:
    text = contracts["text_encoder"]
    wider = replace(text, outputs=tuple(replace(spec, shape=(77, 13)) for spec in text.outputs))
    with pytest.raises(
        InputError, match=r"it gives hidden FP32\[77,12\], config.pbtxt says hidden FP32\[77,13\].*text_enc"
    ):
        check_model("text_encoder", own, wider)
    denoiser = contracts["denoiser"]
    narrow = [replace(spec, shape=(77, 6)) if spec.name == "text" else spec for spec in denoiser.inputs]
    with pytest.raises(InputError, match="denoiser: its parts do not fit each other; torch says: .*made of .*unet"):
        check_model("denoiser", own, replace(denoiser, inputs=tuple(narrow)))
