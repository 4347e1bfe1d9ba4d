"""What an export would refuse after minutes, looked for in seconds: before the first graph is made.

Knows a family's configurations, tokenizers and modules, and the tensor contract; nothing about ONNX.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPTextConfig, CLIPTokenizer

from training.common.errors import reading
from training.common.storage import read_config
from training.exporting.errors import ContractError, ExportError, NumericalError, made_of
from training.exporting.family_contracts import shapes_of
from training.exporting.graphs import BUILDERS, SOURCES
from training.exporting.onnx_file import EXAMPLE_BATCH, run
from training.exporting.samples import Samples
from training.exporting.tensor_contract import NUMPY_TYPES, REMEDY, Contract, TensorSpec
from training.models.family import FamilyPaths
from training.models.tokens import TOKENS

PADDED = {
    "features",
    "favours",
    "user",
    "reward_text_user",
    "reward_image_user",
    "generator_user",
}  # any width ≥ in use
OLD_END = 2  # eos_token_id of early CLIP configurations, for which transformers pools at the largest id


def check_family(paths: FamilyPaths, repository: Path, contracts: Mapping[str, Contract]) -> None:
    """Checks that the family's parts fit each other and config.pbtxt, by configuration files and origins.

    Raises:
        InputError: names the file, what is wrong in it, and the remedy.
    """
    with reading(paths.pipeline):
        unet, vae = read_config(paths.backbone_files), read_config(paths.pipeline / "vae")
        text = CLIPTextConfig.from_pretrained(paths.pipeline / "text_encoder")
        shapes = shapes_of(paths)
        pairs = (
            ("cross_attention_dim", unet["cross_attention_dim"], "text_encoder's hidden_size", text.hidden_size),
            ("in_channels", unet["in_channels"], "vae's latent_channels", vae["latent_channels"]),
        )
    with reading(paths.reward):
        reward = CLIPConfig.from_pretrained(paths.reward).text_config
    for name, found, part, wanted in pairs:
        if found != wanted:
            raise ExportError(
                f"{paths.backbone_files / 'config.json'}: {name} is {found}, but the {part} in {paths.pipeline} is "
                f"{wanted}: take both from one pipeline"
            )
    _check_tokens(paths.pipeline / "text_encoder", text, paths.tokenizer())
    _check_tokens(paths.reward, reward, paths.reward_tokenizer())
    if reward.eos_token_id not in (paths.reward_tokenizer().eos_token_id, OLD_END):
        raise ExportError(
            f"{paths.reward / 'config.json'}: the text tower reads texts at token {reward.eos_token_id}, their end in "
            f"its tokenizer is {paths.reward_tokenizer().eos_token_id}: take the tokenizer it was trained with"
        )
    paths.check_origins()
    for model, wanted_shapes in shapes.items():
        given = (*contracts[model].inputs, *contracts[model].outputs)
        _check_shapes(repository / model / "config.pbtxt", given, wanted_shapes)


def _check_tokens(directory: Path, config: CLIPTextConfig, tokenizer: CLIPTokenizer) -> None:
    """Every id that the tokenizer may give has an embedding, and so has every place."""
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise ExportError(
            f"{directory / 'config.json'}: vocab_size is {config.vocab_size}, but its tokenizer knows ids up to "
            f"{largest}: take the tokenizer it was trained with"
        )
    if config.max_position_embeddings < TOKENS:
        raise ExportError(
            f"{directory / 'config.json'}: max_position_embeddings is {config.max_position_embeddings}; prompts have "
            f"{TOKENS} tokens: take a text encoder that reads as many"
        )


def _check_shapes(config: Path, given: tuple[TensorSpec, ...], wanted: Mapping[str, tuple[int, ...]]) -> None:
    if odd := sorted(wanted.keys() ^ {spec.name for spec in given}):
        raise ContractError(f"{config}: its tensors differ from the model's in {', '.join(odd)}; {REMEDY}")
    for spec in given:
        fitting = replace(spec, shape=wanted[spec.name])
        if spec != fitting and spec.name not in PADDED:
            raise ContractError(f"{config} says {spec}, this family has {fitting}; {REMEDY}")


@torch.inference_mode()
def check_model(model: str, paths: FamilyPaths, contract: Contract) -> None:
    """Loads a model's weights and runs it once in torch on its contract's inputs.

    Raises:
        InputError: a file cannot be used, the outputs are not the contract's, or they are not finite.
    """
    with made_of(SOURCES[model](paths)):
        module = BUILDERS[model](paths, contract).eval()
        try:
            outputs = run(module, Samples(paths, model).draw(contract, EXAMPLE_BATCH))
        except (RuntimeError, ValueError, IndexError) as error:  # torch's, of sizes
            reason = str(error).splitlines()[0]
            raise ExportError(f"{model}: its parts do not fit each other; torch says: {reason}") from error
        for spec, output in zip(contract.outputs, outputs, strict=True):
            found = replace(spec, dtype=NUMPY_TYPES.get(output.dtype.name, output.dtype.name), shape=output.shape[1:])
            if found != spec:
                raise ContractError(f"{model}: it gives {found}, config.pbtxt says {spec}; {REMEDY}")
            if not np.isfinite(output).all():
                raise NumericalError(f"{model}: its {spec.name} are not finite; take an earlier checkpoint")
