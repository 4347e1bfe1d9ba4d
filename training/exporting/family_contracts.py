"""The tensor contract of a family: the dimensions that follow from its configuration files, and config.pbtxt of them.

Knows Triton's model configuration and the padded maxima; tensor_contract.py reads what is written here.
"""

from itertools import takewhile
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from contract import tensors
from contract.release import Sizes
from contract.tensors import Shapes
from training.common.errors import ModelError, reading
from training.common.storage import read_config
from training.exporting.manifest import sizes_in_use
from training.models.family import FamilyPaths
from training.models.tokens import TOKENS

AT_LEAST = {"text_encoder": 8}  # smallest batch limits: a round's prompt, its negative and some wished prompts


def shapes_of(paths: FamilyPaths) -> dict[str, Shapes]:
    """The dimensions of every model's tensors in this family, from its configuration files; no weights are read.

    Raises:
        WeightsError: a part is missing.
        ExportError: the plug-ins and the adapter were trained with another feature schema than the family's.
    """
    with reading(paths.pipeline.parent):
        return tensors.shapes(_sizes(paths))


def _sizes(paths: FamilyPaths) -> Sizes:
    unet, vae = read_config(paths.backbone_files), read_config(paths.pipeline / "vae")
    text, clip = read_config(paths.pipeline / "text_encoder"), read_config(paths.reward)
    in_use = sizes_in_use(paths)
    side = unet["sample_size"]
    return Sizes(
        image_size_px=side * 2 ** (len(vae["block_out_channels"]) - 1),
        latent_channels=unet["in_channels"],
        latent_size=side,
        text_tokens=TOKENS,
        text_width=text["hidden_size"],
        feature_slots=tensors.room_for(in_use.feature_slots, tensors.FEATURE_SLOTS),
        phrases=tensors.room_for(in_use.phrases, tensors.PHRASES),
        generator_user_width=tensors.room_for(in_use.generator_user_width, tensors.GENERATOR_USER_WIDTH),
        reward_user_width=tensors.room_for(in_use.reward_user_width, tensors.REWARD_USER_WIDTH),
        reward_width=clip["projection_dim"],
    )


def resized(
    text: str, shapes: Shapes, max_batch: int | None = None, instances: int | None = None
) -> model_config_pb2.ModelConfig:
    """A config.pbtxt with these dimensions; warm-ups larger than `max_batch` are left out.

    Raises:
        ModelError: it names a tensor that is not in `shapes`.
    """
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    warmed = [(name, tensor) for warmup in config.model_warmup for name, tensor in warmup.inputs.items()]
    for name, tensor in [*((t.name, t) for t in (*config.input, *config.output)), *warmed]:
        if name not in shapes:
            raise ModelError(f"config.pbtxt names the tensor {name!r}, which the family does not have")
        tensor.dims[:] = shapes[name]
    if max_batch is not None:
        config.max_batch_size = max_batch
        kept = [warmup for warmup in config.model_warmup if warmup.batch_size <= max_batch]
        del config.model_warmup[:]
        config.model_warmup.extend(kept)
    if instances is not None:
        del config.instance_group[:]
        config.instance_group.add(count=instances)
    return config


def write_contracts(
    paths: FamilyPaths, like: Path, out: Path, max_batch: int | None = None, instances: int | None = None
) -> None:
    """One config.pbtxt for every model; `instances` of each, instead of as many as `like` says."""
    for model, shapes in shapes_of(paths).items():
        limit = None if max_batch is None else max(max_batch, AT_LEAST.get(model, 1))
        text = (like / model / "config.pbtxt").read_text(encoding="utf-8")
        comment = "\n".join(takewhile(lambda line: line.startswith("#"), text.splitlines()))
        config = text_format.MessageToString(resized(text, shapes, limit, instances))
        (out / model).mkdir(parents=True, exist_ok=True)
        (out / model / "config.pbtxt").write_text(f"{comment}\n{config}", encoding="utf-8")
