"""A family of Stable Diffusion 1.5's published sizes with random weights: built, trained for one step, exported.

`python -m lab.benchmarks.full_size_generator` is the command, and runs each part in a process of its own.
"""

import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from transformers import CLIPTextConfig, CLIPTextModel

from contract.release import model_dir, read_manifest, release_dir
from contract.repository import Repository
from training.common.noise import noise_schedule
from training.common.reports import write_report
from training.data.groups import GroupTensors
from training.exporting.family_contracts import write_contracts
from training.exporting.staging import export_family
from training.generator.recipes import paper
from training.generator.training import Training
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import TINY, FamilyPaths, hush_libraries, save_pipeline

GROUPS = 5  # one is held out, as the training requires, and one is trained on


def unet(width: int) -> UNet2DConditionModel:
    """SD 1.5's for width 320."""
    return UNet2DConditionModel(
        sample_size=64 if width == 320 else 16, block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        layers_per_block=2, cross_attention_dim=768, attention_head_dim=8, norm_num_groups=min(32, width // 4),
    )  # fmt: skip


def vae(width: int) -> AutoencoderKL:
    """SD 1.5's for width 128; residual branches at a tenth, else rounding errors dominate flat pictures."""
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width), layers_per_block=2, latent_channels=4,
        norm_num_groups=min(32, width // 4), sample_size=512, scaling_factor=0.18215,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            for parameter in module.conv2.parameters():
                parameter.data.mul_(0.1)
    return model


def text_encoder() -> CLIPTextModel:
    """The text tower of CLIP ViT-L/14."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=49_408, hidden_size=768, intermediate_size=3_072, num_hidden_layers=12, num_attention_heads=12,
        projection_dim=768, hidden_act="quick_gelu",
    ))  # fmt: skip


def build(work: Path, small: bool) -> dict[str, int]:
    """The family's directory; the number of parameters of each part."""
    torch.manual_seed(0)
    like, paths = FamilyPaths.under(TINY), FamilyPaths.under(work / "family")
    parts = {"unet": unet(32 if small else 320), "vae": vae(32 if small else 128), "text_encoder": text_encoder()}
    adapter = PersonalisedAdaptiveNetwork.from_unet(parts["unet"], like.schema())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in (*parts.items(), ("adapter", adapter))}
    adapter.save(paths.adapter)
    del adapter
    save_pipeline(paths.pipeline, tokenizer=like.tokenizer(), scheduler=noise_schedule(), **parts)
    for name in ("reward", "perfusion_rm"):
        shutil.copytree(getattr(like, name), getattr(paths, name), dirs_exist_ok=True)
    for name in ("feature_schema", "phrases"):
        shutil.copyfile(getattr(like, name), getattr(paths, name))
    return counts


def train_step(work: Path) -> dict[str, float]:
    """One optimizer step on one group of five; the adapter goes back into the family."""
    paths = FamilyPaths.under(work / "family")
    rng, schema, model = np.random.default_rng(0), paths.schema(), paths.unet()
    size = (GROUPS, 5, model.config.in_channels, model.config.sample_size, model.config.sample_size)
    groups = GroupTensors(
        schema, np.ones((GROUPS, schema.n_slots), np.int64), np.arange(5) == rng.integers(5, size=(GROUPS, 1)),
        rng.integers(300, size=(GROUPS, 1, 77)), latents=rng.normal(size=size).astype(np.float16),
    )  # fmt: skip
    recipe = replace(paper("group"), groups_per_batch=1, accumulate=1, warmup_steps=1)
    training = Training(recipe, groups, paths, model)
    began = time.perf_counter()
    row = training.step(0)
    row["step_s"] = round(time.perf_counter() - began, 1)
    training.kept.save(paths.adapter.parent)
    return row


def export(work: Path) -> dict[str, float]:
    """Writes contract and release; returns the size of the files."""
    paths, repository = FamilyPaths.under(work / "family"), work / "model_repository"
    write_contracts(paths, Path("model_repository"), repository, max_batch=1, instances=1)
    number = export_family(paths, Repository(repository), processes=1)
    found = {}
    for model, entry in read_manifest(release_dir(repository, number)).models.items():
        size = sum((model_dir(repository, model, number) / name).stat().st_size for name in entry.files)
        found |= {f"{model}_gib": round(size / 2**30, 2), f"{model}_max_abs_error": entry.max_abs_error}
    return found


def run_part(part: str, work: Path, small: bool) -> None:
    """Runs a part and writes <work>/<part>.json: its results, seconds, and the process's largest memory."""
    hush_libraries()
    began = time.perf_counter()
    found = build(work, small) if part == "build" else (train_step if part == "train_step" else export)(work)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    found["threads"] = torch.get_num_threads()
    result = {**found, "seconds": round(time.perf_counter() - began, 1), "peak_gib": round(peak, 2)}
    write_report(work / f"{part}.json", result)
