"""Writes the tensor contract for a family of other sizes: a model repository's config.pbtxt files.

    python -m training.exporting.contracts --weights build/sd15 --out build/sd15_repository --max-batch 4

Names, types, comments and policies are those of the repository given by --like; the dimensions follow from the
family's own configurations. Then `python -m training.exporting.export --weights … --repository …` fills it.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from contract.feature_schema import FeatureSchema
from training.common.errors import ModelError
from training.common.storage import read_config
from training.exporting.graphs import BUILDERS
from training.models.family import FamilyPaths, hush_libraries

TOKENS = 77
AT_LEAST = {"text_encoder": 2}  # smallest batch limits: a prompt and its negative are read together
Shapes = Mapping[str, tuple[int, ...]]  # tensor → dimensions without the batch


def shapes_of(paths: FamilyPaths) -> dict[str, Shapes]:
    """What every model's tensors measure in this family, from its configuration files; no weights are read.

    Raises:
        WeightsError: a part is missing.
        ModelError: the plug-ins and the adapter were trained with another feature schema than the family's.
    """
    unet, vae = read_config(paths.backbone_files), read_config(paths.pipeline / "vae")
    text, clip = read_config(paths.pipeline / "text_encoder"), read_config(paths.reward)
    plugin, adapter, schema = read_config(paths.perfusion_rm), read_config(paths.adapter), paths.schema()
    for name, config in (("perfusion_rm", plugin), ("adapter", adapter)):
        if FeatureSchema.from_json(config["schema"]) != schema:
            raise ModelError(f"{name} was trained with another feature schema than {paths.feature_schema}")
    side = unet["sample_size"]
    picture = side * 2 ** (len(vae["block_out_channels"]) - 1)
    latents, image = (unet["in_channels"], side, side), (picture, picture, 3)
    states, ids = (TOKENS, text["hidden_size"]), (TOKENS,)
    of_reward = (len(schema.features) * plugin["plugin"]["embed_dim"],)
    of_generator = (len(schema.features) * adapter["embed_dim"],)
    embedding = (clip["projection_dim"],)
    phrases = (adapter.get("language") or {"phrases": []})["phrases"]  # of a user prompt, if there is one
    return {
        "denoiser": {
            "latents": latents, "noise": latents, "text": states, "negative_text": states, "user": of_generator,
            "timestep": (1,), "guidance": (1,), "adapter_scale": (1,), "choice_noise": (max(1, len(phrases)),),
        },
        "vae_decoder": {"latents": latents, "image": image},
        "vae_encoder": {"latents": latents, "image": image},
        "user_encoder": {
            "features": (schema.n_slots,), "reward_text_user": of_reward, "reward_image_user": of_reward,
            "generator_user": of_generator,
        },
        "text_encoder": {"input_ids": ids, "hidden": states},
        "reward_text": {"input_ids": ids, "user": of_reward, "embedding": embedding},
        "reward_image": {"image": image, "user": of_reward, "embedding": embedding},
    }  # fmt: skip


def resized(config: str, shapes: Shapes, max_batch: int | None = None) -> str:
    """A config.pbtxt with these dimensions; warm-ups larger than `max_batch` are left out.

    Raises:
        ModelError: it names a tensor that `shapes` does not know.
    """

    def dims(match: re.Match[str]) -> str:
        if match[2] not in shapes:
            raise ModelError(f"config.pbtxt names the tensor {match[2]!r}, which the family does not have")
        return f"{match[1]}dims: [ {', '.join(map(str, shapes[match[2]]))} ]"

    config = re.sub(r'((?:name|key): "(\w+)"[^\[\n]*?)dims: \[[^\]]*\]', dims, config)
    if max_batch is None:
        return config
    config = re.sub(r"max_batch_size: \d+", f"max_batch_size: {max_batch}", config)

    def unless_over(warmup: re.Match[str]) -> str:
        return warmup[0] if int(warmup[1]) <= max_batch else ""

    warmups = re.compile(r',?\n  \{\n    name: "batch_\d+" batch_size: (\d+)\n.*?\n  \}', re.DOTALL)
    return warmups.sub(unless_over, config)


def write_contracts(
    paths: FamilyPaths, like: Path, out: Path, max_batch: int | None = None, instances: int | None = None
) -> None:
    """One config.pbtxt for every model; `instances` of each, instead of as many as Triton thinks right.

    Without a GPU that is two, each with its own copy of the weights.
    """
    for model, shapes in shapes_of(paths).items():
        limit = None if max_batch is None else max(max_batch, AT_LEAST.get(model, 1))
        text = resized((like / model / "config.pbtxt").read_text(), shapes, limit)
        if instances is not None:
            text += f"\ninstance_group [ {{ count: {instances} }} ]\n"
        (out / model).mkdir(parents=True, exist_ok=True)
        (out / model / "config.pbtxt").write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="the family's directory")
    parser.add_argument("--out", type=Path, required=True, help="the new model repository")
    parser.add_argument("--like", type=Path, default=Path("model_repository"), help="(default: %(default)s)")
    parser.add_argument("--max-batch", type=int, help="largest batch of every model, of the text encoder 2 at least")
    parser.add_argument("--instances", type=int, help="of every model; on a CPU the default is two, twice the memory")
    arguments = parser.parse_args()
    hush_libraries()
    try:
        family, limits = FamilyPaths.under(arguments.weights), (arguments.max_batch, arguments.instances)
        write_contracts(family, arguments.like, arguments.out, *limits)
    except (ModelError, OSError) as error:
        print(f"no contract written: {error}", file=sys.stderr)
        return 1
    print(f"contracts of {len(BUILDERS)} models written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
