"""Writes a family of the tiny one's shape with random weights, in exactly its format.

For checking the export and the services before, or without, any training:
`python -m lab.pretraining.random_family DIR`. Its pictures are noise.
"""

import argparse
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from contract.feature_schema import FeatureSchema
from lab.market.merchants import FEATURE_SCHEMA
from lab.market.prompts import vocabulary
from lab.pretraining import train_clip, train_diffusion, train_vae
from lab.pretraining.train_tokenizer import train as train_tokenizer
from training.common.noise import noise_schedule
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths, hush_libraries, save_pipeline, save_reward_backbone
from training.models.plugin import AdaptiveNetwork
from training.models.reward_model import PerFusionRM
from training.reward.recipes import tiny

M = TypeVar("M", bound=nn.Module)


def write_random_family(root: Path, seed: int = 0) -> FamilyPaths:
    """All parts; the personal ones have large enough weights that a profile changes the output."""
    torch.manual_seed(seed)
    paths, schema = FamilyPaths.under(root), FeatureSchema.from_json(FEATURE_SCHEMA)
    tokenizer = train_tokenizer()
    diffusion = train_diffusion.build(train_diffusion.DiffusionRecipe(), tokenizer)
    clip = train_clip.build(tokenizer)
    make_loud(PersonalisedAdaptiveNetwork.from_unet(diffusion.unet, schema)).save(paths.adapter)
    make_loud(PerFusionRM(clip, schema, tiny().config())).save(paths.perfusion_rm)
    vae = train_vae.build(train_vae.VaeRecipe())
    save_pipeline(paths.pipeline, diffusion.unet, vae, diffusion.text_encoder, tokenizer, noise_schedule())
    save_reward_backbone(paths.reward, clip, tokenizer, train_clip.IMAGE_MEAN, train_clip.IMAGE_STD)
    schema.write(paths.feature_schema)
    vocabulary().write(paths.phrases)
    return paths


def make_loud(model: M, std: float = 0.05) -> M:
    """Give the layers that start at zero some weights, as training would."""
    for module in model.modules():
        if isinstance(module, AdaptiveNetwork):
            nn.init.normal_(module[-1].weight, std=std)
        if isinstance(module, PersonalisedAdaptiveNetwork):
            for conv in module.zero_convs():
                nn.init.normal_(conv.weight, std=std)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="where to write the family")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    hush_libraries()
    write_random_family(arguments.directory, arguments.seed)
    print(f"random family written; export it: python -m training.exporting.export --weights {arguments.directory}")


if __name__ == "__main__":
    main()
