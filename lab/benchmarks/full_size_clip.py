"""A ViT-H/14 `CLIPModel` with random weights: its plug-ins' training step and the export of both towers, measured.

`python -m lab.benchmarks.full_size_reward` is the command.
"""

import argparse
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from lab.benchmarks.options import write
from lab.market.merchants import FEATURE_SCHEMA
from training.common.objectives import reward_cross_entropy
from training.exporting.graphs import RewardImage, RewardText
from training.models.family import hush_libraries
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM

Report = dict[str, dict[str, float]]


def vit_h_14() -> CLIPConfig:
    """As published: 986 M parameters."""
    text = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "hidden_act": "gelu", "projection_dim": 1024,
    }  # fmt: skip
    vision = {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "hidden_act": "gelu", "patch_size": 14, "image_size": 224, "projection_dim": 1024,
    }  # fmt: skip
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=1024)


@contextmanager
def measured(report: Report, name: str) -> Iterator[None]:
    """Seconds, and the process's largest memory so far."""
    print(f"{name} …", flush=True)
    began = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report[name] = {"seconds": round(time.perf_counter() - began, 1), "peak_gib": round(peak, 2)}
    print(f"{name}: {report[name]['seconds']} s, {report[name]['peak_gib']} GiB at most", flush=True)


def build(bf16: bool) -> PerFusionRM:
    """Random weights, plug-ins as in the paper's recipe."""
    clip = CLIPModel(vit_h_14()).eval().requires_grad_(False)
    clip.gradient_checkpointing_enable({"use_reentrant": False})
    return PerFusionRM(clip.bfloat16() if bf16 else clip, FEATURE_SCHEMA).train()


def prompts(model: PerFusionRM, n: int) -> torch.Tensor:
    """Random token ids, twenty before the end, (n, 77)."""
    ids = torch.randint(0, 49_000, (n, 77), generator=torch.Generator().manual_seed(1))
    ids[:, 20:] = model.clip.config.text_config.eos_token_id
    return ids


def train_step(model: PerFusionRM) -> float:
    """One group of five; returns the loss, ln 5 at the start up to the random scores."""
    optimizer = torch.optim.AdamW(model.plugins.parameters(), 1e-3, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 5, 3, 224, 224, generator=generator)
    ids = prompts(model, 1)
    features = torch.ones(1, model.schema.n_slots, dtype=torch.long)
    selected = torch.tensor([[True, False, False, False, False]])
    loss = reward_cross_entropy(model(pixels, ids, features), selected).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def export(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> float:
    """To ONNX with a free batch and external data; returns the largest difference relative to the output's scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = [{0: torch.export.Dim.DYNAMIC} for _ in inputs]
    names = [f"input_{place}" for place in range(len(inputs))]
    program = torch.onnx.export(
        module.eval(), inputs, dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False
    )
    program.save(str(path), external_data=True)
    expected = module(*inputs).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {n: value.numpy() for n, value in zip(names, inputs, strict=True)})
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run(arguments: argparse.Namespace) -> None:
    """Every part in turn, and the report."""
    hush_libraries()
    report: Report = {}
    with measured(report, "build"):
        model = build(arguments.bf16)
    parameters = {"backbone": sum(p.numel() for p in model.clip.parameters()),
                  "plugins": sum(p.numel() for p in model.plugins.parameters())}  # fmt: skip
    with measured(report, "train_step"):
        loss = train_step(model)
    model = model.float().eval()
    model.clip.gradient_checkpointing_disable()
    user = model.represent("text", torch.ones(2, model.schema.n_slots, dtype=torch.long)).detach()
    folder = arguments.out.parent / "full_size_reward"
    preprocess = Preprocess({"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}, 224)
    differences = {}
    with measured(report, "export_text"):
        ids = prompts(model, 2)
        differences["text"] = export(RewardText(model), (ids, user), folder / "text.onnx")
    with measured(report, "export_image"):
        images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
        differences["image"] = export(RewardImage(model, preprocess), (images, user), folder / "image.onnx")
    gib = sum(path.stat().st_size for path in folder.iterdir()) / 2**30
    if not arguments.keep:
        shutil.rmtree(folder)
    found = {
        "parameters": parameters,
        "loss": loss,
        "parts": report,
        "exported_gib": round(gib, 2),
        "onnx_relative_difference": differences,
        "threads": torch.get_num_threads(),
        "bf16": arguments.bf16,
    }
    write(found, arguments.out)
