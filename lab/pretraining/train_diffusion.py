"""Trains the tiny latent diffusion model: a U-Net of SD 1.5's topology, with its text encoder.

Both learn together from drawings and freshly worded prompts (Eq. 1), as in the first latent
diffusion models. Knows nothing of merchants.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lab.market.attributes import ABSENT, KINDS, complete, from_indices
from lab.market.prompts import ask_for, parse, write
from lab.recogniser.drawings import Drawings, drawings
from lab.recogniser.recogniser import Recogniser, prompt_accuracy
from training.common.loop import fit, warmup_cosine
from training.common.noise import add_noise, draw_levels, noise_schedule
from training.common.objectives import eps_mse
from training.generator.sampling import sample, to_images
from training.models.tokens import encode as tokenize

DETAILS = ("neckline", "sleeve_style", "pattern", "trim")


@dataclass(frozen=True)
class DiffusionRecipe:
    """How the U-Net and the text encoder are trained."""

    seed: int = 505
    channels: tuple[int, ...] = (64, 80, 80, 80)
    text_width: int = 64
    text_layers: int = 2
    steps: int = 9_000
    batch: int = 64
    lr: float = 8e-4
    prompt_dropout: float = 0.1
    detail_share: float = 0.0  # how often a prompt names each of DETAILS besides what it names anyway
    ema: float = 0.998
    sheet_every: int = 500


def continued() -> DiffusionRecipe:
    """From published weights: the recipe after a change of the market's drawings, not of its words."""
    return DiffusionRecipe(seed=515, steps=3_500)


def details() -> DiffusionRecipe:
    """The last phase: prompts that name what a picture shows in few of its pixels, on garments that have it.

    Without it the U-Net follows every phrase but these: their share of the loss is too small.
    """
    return DiffusionRecipe(seed=516, steps=1_200, lr=5e-4, detail_share=0.7)


class TextToNoise(torch.nn.Module):
    """The U-Net and the text encoder, trained as one."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def text(self, input_ids: Tensor) -> Tensor:
        """Text states (B, 77, D) of token ids (B, 77)."""
        states: Tensor = self.text_encoder(input_ids).last_hidden_state
        return states

    def noise(self, latents: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """The predicted noise (B, 4, S, S)."""
        predicted: Tensor = self.unet(latents, t, text).sample
        return predicted

    def forward(self, latents: Tensor, t: Tensor, input_ids: Tensor) -> Tensor:
        """The predicted noise (B, 4, S, S) for token ids (B, 77)."""
        return self.noise(latents, t, self.text(input_ids))


def build(recipe: DiffusionRecipe, tokenizer: CLIPTokenizer) -> TextToNoise:
    """Untrained: 12 encoder blocks, a middle block and 12 decoder blocks, as in SD 1.5."""
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=recipe.channels, layers_per_block=2,
        cross_attention_dim=recipe.text_width, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.text_width,
        intermediate_size=2 * recipe.text_width, num_hidden_layers=recipe.text_layers,
        num_attention_heads=4, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        projection_dim=recipe.text_width,
    )  # fmt: skip
    return TextToNoise(unet, CLIPTextModel(text))


def train(
    recipe: DiffusionRecipe,
    tokenizer: CLIPTokenizer,
    vae: AutoencoderKL,
    judge: Recogniser,
    run_dir: Path,
    data_dir: Path,
    start: TextToNoise | None = None,
) -> TextToNoise:
    """Trains (or resumes) and returns the exponential moving average of the weights.

    `start` is what a new run begins from; without it, from scratch.
    """
    pool = drawings(data_dir, 40_000, 101)
    cached = latents_of(vae, pool.images, run_dir / "latents.pt")
    choices = _rows_to_choose_from(pool, recipe)
    torch.manual_seed(recipe.seed)
    model = (start or build(recipe, tokenizer)).train()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=1e-3)
    schedule = warmup_cosine(optimizer, 300, recipe.steps, floor=0.02)
    alphas = noise_schedule().alphas_cumprod

    def step(n: int) -> dict[str, float]:
        rng = np.random.default_rng((recipe.seed, 1, n))
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_000 + n)
        rows = rng.choice(choices, size=recipe.batch)
        prompts = [_word(from_indices(pool.indices[row]), rng, recipe) for row in rows]
        z_0 = sample_posterior(cached, rows, generator)
        t = draw_levels("logit_normal", recipe.batch, generator)
        eps = torch.randn(z_0.shape, generator=generator)
        z_t = add_noise(z_0, eps, alphas[t])
        predicted = model(z_t, t, torch.as_tensor(tokenize(tokenizer, prompts)))
        loss = eps_mse(predicted, eps).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        return {"loss": loss.item()}

    def sheet(n: int) -> Mapping[str, float]:
        if (n + 1) % recipe.sheet_every != 0:
            return {}
        path = run_dir / f"sheet-{n + 1:05d}.png"
        return {"prompt_accuracy": sample_sheet(average.module, tokenizer, vae, judge, path)}

    state = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    fit(run_dir, recipe.steps, step, state, on_log=sheet)
    return average.module.eval()


def sample_sheet(
    model: TextToNoise,
    tokenizer: CLIPTokenizer,
    vae: AutoencoderKL,
    judge: Recogniser,
    path: Path,
    guidance: float = 4.0,
    count: int = 40,
) -> float:
    """Writes a sheet of samples for held-out prompts; returns the judge's prompt accuracy."""
    rng = np.random.default_rng(1)
    prompts = [write(ask_for(complete({}, rng), rng), rng) for _ in range(count)]
    model.eval()
    with torch.inference_mode():
        text = model.text(torch.as_tensor(tokenize(tokenizer, prompts)))
        empty = model.text(torch.as_tensor(tokenize(tokenizer, [""] * count)))
    noise = torch.randn((count, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    latents = sample(model.noise, model.noise, text, empty, noise, guidance=guidance)
    images = to_images(vae, latents)
    rows = images.reshape(-1, 10, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
    Image.fromarray(rows.reshape(-1, 10 * images.shape[2], 3)).save(path)
    garments = judge.read(images)
    return float(np.mean([
        prompt_accuracy(parse(prompt), [garment])
        for prompt, garment in zip(prompts, garments, strict=True)
    ]))  # fmt: skip


def latents_of(vae: AutoencoderKL, images: np.ndarray, cache: Path) -> tuple[Tensor, Tensor]:
    """Scaled posterior means and standard deviations (N, 4, S, S), fp16, cached on disk."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_encode_all(vae, images), cache)
    means, stds = torch.load(cache)
    return means, stds


@torch.inference_mode()
def _encode_all(vae: AutoencoderKL, images: np.ndarray) -> tuple[Tensor, Tensor]:
    from tqdm import tqdm

    from lab.recogniser.recogniser import to_pixels

    means, stds = [], []
    for at in tqdm(range(0, len(images), 100), desc="encoding latents"):
        posterior = vae.encode(to_pixels(images[at : at + 100])).latent_dist
        means.append((posterior.mean * vae.config.scaling_factor).half())
        stds.append((posterior.std * vae.config.scaling_factor).half())
    return torch.cat(means), torch.cat(stds)


def sample_posterior(cached: tuple[Tensor, Tensor], rows: np.ndarray, generator: torch.Generator) -> Tensor:
    """Latents (B, 4, S, S) fp32 drawn from the posteriors of these rows."""
    means, stds = (part[rows].float() for part in cached)
    return means + stds * torch.randn(means.shape, generator=generator)


def _rows_to_choose_from(pool: Drawings, recipe: DiffusionRecipe) -> np.ndarray:
    """Every row once; garments with a neckline three times in the training of details."""
    rows = np.arange(len(pool))
    with_neckline = np.flatnonzero(pool.indices[:, KINDS.index("neckline")] != ABSENT)
    return np.concatenate([rows, with_neckline, with_neckline]) if recipe.detail_share else rows


def _word(garment: dict[str, str], rng: np.random.Generator, recipe: DiffusionRecipe) -> str:
    if rng.random() < recipe.prompt_dropout:
        return ""
    asked = ask_for(garment, rng, most=8)
    named = {kind: garment[kind] for kind in DETAILS if kind in garment and rng.random() < recipe.detail_share}
    return write(asked | named, rng)
