"""What the contestants run on, made once into build/race from one family: every graph by the project's own exporter.

    repository/   a model repository of two releases: the family's as exported, and the same with an adaptive network
    pipeline/     the family's pipeline with the U-Net that draws, for diffusers
    onnx/         the same weights as graphs of the pipeline's parts, as optimum-onnx and OpenVINO read them

A tiny family draws plainly by its released graph: it has no adaptive network, and a merchant's wishes are words. The
other release has a network of the published shape with random weights, since the cost does not depend on them.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contract.repository import Repository
from training.exporting.onnx_file import export_onnx
from training.exporting.staging import export_family
from training.exporting.tensor_contract import Contract, TensorSpec
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.tokens import TOKENS

OUT = Path("build/race")
MOST_ROWS = 32
OLD_PREFIX = "text_model."  # of the text encoder's weights in transformers 4, which optimum-onnx wants
ZERO_CONV_DEVIATION = 0.02  # of the random weights that speak in place of zeros


@dataclass(frozen=True)
class Material:
    """Where it is."""

    plain_release: int
    network_release: int
    repository: Path = OUT / "repository"
    pipeline: Path = OUT / "pipeline"
    onnx: Path = OUT / "onnx"


def make(family: Path, repository: Path) -> Material:
    """Makes what is not there yet; the newest release of `repository` must be this family's.

    Raises:
        InputError: no release is exported, or the family cannot be.
    """
    paths, plain = FamilyPaths.under(family), max(Repository(repository).numbers(), default=0)
    mark, own = OUT / "made.json", Repository(OUT / "repository")
    manifest = (repository / "releases" / str(plain) / "manifest.json").read_text()
    if mark.is_file() and (made := json.loads(mark.read_text()))["manifest"] == manifest:
        return Material(made["plain"], made["network"])
    for folder in ("repository", "pipeline", "onnx", "family"):
        shutil.rmtree(OUT / folder, ignore_errors=True)
    _copy_release(repository, plain, own.root)
    network = export_family(_with_network(paths, OUT / "family"), own, processes=2)
    _pipeline(paths, OUT / "pipeline")
    _graphs(paths, OUT / "onnx")
    mark.write_text(json.dumps({"manifest": manifest, "plain": plain, "network": network}) + "\n")
    return Material(plain, network)


def _copy_release(repository: Path, number: int, into: Path) -> None:
    """One release and the tensor contract; the files of its models are linked."""
    for config in repository.glob("*/config.pbtxt"):
        model = config.parent.name
        shutil.copytree(config.parent / str(number), into / model / str(number), copy_function=os.link)
        shutil.copy2(config, into / model)
    shutil.copytree(repository / "releases" / str(number), into / "releases" / str(number))


def _with_network(paths: FamilyPaths, into: Path) -> FamilyPaths:
    """The family with an adaptive network that says something, whatever it is."""
    torch.manual_seed(0)
    network = PersonalisedAdaptiveNetwork.from_unet(paths.backbone_unet(), paths.schema())
    for conv in network.zero_convs():
        nn.init.normal_(conv.weight, std=ZERO_CONV_DEVIATION)
    network.save(into / "adapter")
    return replace(paths, adapter=into / "adapter")


def _pipeline(paths: FamilyPaths, into: Path) -> None:
    """diffusers' directory, float32 read from the same float16 files."""
    shutil.copytree(paths.pipeline, into)
    shutil.rmtree(into / "unet")
    shutil.copytree(paths.backbone_files, into / "unet")
    weights = into / "text_encoder" / "model.safetensors"
    names = {name: name if name.startswith(OLD_PREFIX) else OLD_PREFIX + name for name in load_file(weights)}
    save_file({names[name]: tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    scheduler = json.loads((into / "scheduler" / "scheduler_config.json").read_text())
    scheduler |= {"timestep_spacing": "trailing", "steps_offset": 0}
    (into / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=1))


class _Unet(nn.Module):
    """One timestep for all rows, as pipelines give it."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        at = timestep[:1].expand(sample.shape[0])
        predicted: Tensor = self.unet(sample, at, encoder_hidden_states, return_dict=False)[0]
        return predicted


class _Text(nn.Module):
    def __init__(self, text_encoder: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        output = self.text_encoder(input_ids=input_ids)
        return output.last_hidden_state, output.pooler_output


class _Decoder(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: Tensor) -> Tensor:
        pixels: Tensor = self.vae.decode(latent_sample, return_dict=False)[0]
        return pixels


def _graphs(paths: FamilyPaths, into: Path) -> None:
    """A directory as optimum writes one: a graph beside each part's configuration."""
    unet, text, vae = paths.backbone_unet(), paths.text_encoder(), paths.vae()
    latents = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    width, side = (
        unet.config.cross_attention_dim,
        unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1),
    )
    parts: dict[str, tuple[nn.Module, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]] = {
        "unet": (
            _Unet(unet),
            (
                TensorSpec("sample", "FP32", latents),
                TensorSpec("timestep", "INT64", ()),
                TensorSpec("encoder_hidden_states", "FP32", (TOKENS, width)),
            ),
            (TensorSpec("out_sample", "FP32", latents),),
        ),
        "text_encoder": (
            _Text(text),
            (TensorSpec("input_ids", "INT64", (TOKENS,)),),
            (TensorSpec("last_hidden_state", "FP32", (TOKENS, width)), TensorSpec("pooler_output", "FP32", (width,))),
        ),
        "vae_decoder": (
            _Decoder(vae),
            (TensorSpec("latent_sample", "FP32", latents),),
            (TensorSpec("sample", "FP32", (3, side, side)),),
        ),
    }
    for name, (module, inputs, outputs) in parts.items():
        export_onnx(
            module,
            Contract(name, MOST_ROWS, inputs, outputs),
            _draw(text.config.vocab_size),
            into / name / "model.onnx",
        )
        source = OUT / "pipeline" / name.removesuffix("_decoder")
        shutil.copy2(source / "config.json", into / name)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(OUT / "pipeline" / name, into / name)
    index = json.loads((OUT / "pipeline" / "model_index.json").read_text())
    index["vae_decoder"] = index.pop("vae")
    (into / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")


def _draw(vocabulary: int) -> Callable[[Contract, int], tuple[Tensor, ...]]:
    """Normal numbers, ids and timesteps; the numbers that follow each other are others."""
    generator = torch.Generator().manual_seed(0)

    def draw(contract: Contract, batch: int) -> tuple[Tensor, ...]:
        return tuple(
            torch.randn(batch, *spec.shape, generator=generator)
            if spec.dtype == "FP32"
            else torch.randint(vocabulary, (batch, *spec.shape), generator=generator)
            for spec in contract.inputs
        )

    return draw
