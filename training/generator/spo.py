"""Step-aware preference optimisation (SPO; Liang et al., 2024): one round of drawing pairs, and their ratios.

A prompt is drawn by DDIM with η = 1. At every step k candidates of the next latents are drawn from one state, and the
step-aware preference model scores the clean picture that the U-Net predicts from each. The best and the worst become a
pair if the model's preference is beyond the threshold. A random candidate goes on, so that the next state does not
depend on the scores. Knows policies and the preference model; nothing about data on disk or loops.
"""

from dataclasses import dataclass, fields

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor

from training.common.noise import ddim_step, predicted_original
from training.generator.sampling import Denoise
from training.generator.spo_recipes import SpoRecipe
from training.models.policies import TunedUNet
from training.models.preprocess import Preprocess
from training.models.step_aware import StepAwarePreference

DECODED_AT_ONCE = 32


@dataclass(frozen=True)
class Pairs:
    """N states with the best and the worst of the next latents drawn from each."""

    z_t: Tensor  # (N, C, S, S)
    winner: Tensor  # (N, C, S, S)
    loser: Tensor  # (N, C, S, S)
    text: Tensor  # (N, 77, D)
    step: Tensor  # (N,) which denoising step

    def __len__(self) -> int:
        return len(self.step)

    def rows(self, rows: Tensor) -> "Pairs":
        """These pairs only."""
        return Pairs(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class StepLevels:
    """The noise levels of DDIM's steps."""

    t: Tensor  # (T,) int64, of the state
    s: Tensor  # (T,) of the next latents; 0 after the last step
    alpha_bar_t: Tensor  # (T,)
    alpha_bar_s: Tensor  # (T,)

    @classmethod
    def of(cls, schedule: DDIMScheduler, steps: int, device: torch.device) -> "StepLevels":
        """For this many steps."""
        schedule = DDIMScheduler.from_config(schedule.config)
        schedule.set_timesteps(steps)
        t = schedule.timesteps.to(device)
        s = t - schedule.config.num_train_timesteps // steps
        alphas = schedule.alphas_cumprod.to(device)
        after = torch.where(s >= 0, alphas[s.clamp(min=0)], schedule.final_alpha_cumprod.to(device))
        return cls(t, s.clamp(min=0), alphas[t], after)


@dataclass(frozen=True)
class Critic:
    """Scores predicted latents of one level, each prompt's candidates beside one another."""

    model: StepAwarePreference
    vae: AutoencoderKL
    preprocess: Preprocess

    def pixels(self, z_0: Tensor) -> Tensor:
        """CLIP's input (N, 3, H, W) for clean latents (N, C, S, S), no gradient."""
        with torch.no_grad():
            parts = (z_0 / self.vae.config.scaling_factor).split(DECODED_AT_ONCE)
            images = torch.cat([self.vae.decode(part).sample for part in parts])
            return self.preprocess(((images.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1))

    def __call__(self, z_0: Tensor, t: Tensor, input_ids: Tensor) -> Tensor:
        """(B, K, C, S, S), levels (B,), (B, 77) → (B, K)."""
        return self.model(self.pixels(z_0.flatten(0, 1)).unflatten(0, z_0.shape[:2]), t, input_ids)


@torch.no_grad()
def draw_pairs(
    policy: TunedUNet,
    critic: Critic,
    text: Tensor,
    negative_text: Tensor,
    input_ids: Tensor,
    levels: StepLevels,
    recipe: SpoRecipe,
    generator: torch.Generator,
) -> tuple[Pairs, Tensor]:
    """Draws prompts (P, 77, D) with ids (P, 77) for CLIP: the pairs, and every candidate's score (steps, P, k)."""
    p, k = len(text), recipe.candidates
    shape = (policy.unet.config.in_channels, *[policy.unet.config.sample_size] * 2)

    def noise(*size: int) -> Tensor:
        return torch.randn((*size, *shape), generator=generator).to(text.device)

    def predict(z: Tensor, t: Tensor) -> Tensor:
        return guided(policy.without_user, z, t.expand(len(z)), text, negative_text, recipe.guidance)

    z, found, all_scores = noise(p), [], []
    eps = predict(z, levels.t[0])
    for i in range(len(levels.t)):
        mean, std = ddim_step(z, eps, levels.alpha_bar_t[i : i + 1], levels.alpha_bar_s[i : i + 1], recipe.eta)
        last = i + 1 == len(levels.t)
        if i < recipe.first_step:
            z = mean + std * noise(p)
            eps = predict(z, levels.t[i + 1])
            continue
        nexts = mean.unsqueeze(1) + std.unsqueeze(1) * noise(p, k)  # (P, k, C, S, S)
        flat = nexts.flatten(0, 1)
        after = eps if last else predict(flat, levels.s[i])  # (P·k, C, S, S)
        z_0 = flat if last else predicted_original(flat, after, levels.alpha_bar_s[i : i + 1])
        scores = critic(z_0.unflatten(0, (p, k)), levels.s[i].expand(p), input_ids)  # (P, k)
        all_scores.append(scores)
        found.append(_clear_pairs(z, nexts, scores, text, i, recipe.threshold))
        goes_on = torch.randint(k, (p,), generator=generator).to(text.device)
        each = torch.arange(p, device=text.device)
        z, eps = nexts[each, goes_on], eps if last else after.unflatten(0, (p, k))[each, goes_on]
    joined = {field.name: torch.cat([getattr(pairs, field.name) for pairs in found]) for field in fields(Pairs)}
    return Pairs(**joined), torch.stack(all_scores)


def _clear_pairs(z: Tensor, nexts: Tensor, scores: Tensor, text: Tensor, step: int, threshold: float) -> Pairs:
    """The best and the worst candidate of each state, where the model's preference is beyond the threshold."""
    each = torch.arange(len(z), device=z.device)
    best, worst = scores.argmax(1), scores.argmin(1)
    pair = torch.stack([scores[each, best], scores[each, worst]], dim=1).softmax(1)  # (P, 2)
    clear = pair[:, 0] - pair[:, 1] > threshold
    pairs = Pairs(z, nexts[each, best], nexts[each, worst], text, torch.full_like(each, step))
    return pairs.rows(clear)


def log_ratios(policy: TunedUNet, pairs: Pairs, negative_text: Tensor, levels: StepLevels, recipe: SpoRecipe) -> Tensor:
    """log p_θ(z_s | z_t)/p_ref(z_s | z_t) of winners and losers, the mean over C, H, W; (2, N), with gradient."""
    t, a, b = levels.t[pairs.step], levels.alpha_bar_t[pairs.step], levels.alpha_bar_s[pairs.step]
    states = (pairs.z_t, t, pairs.text, negative_text.expand_as(pairs.text), recipe.guidance)
    mean, std = ddim_step(pairs.z_t, guided(policy.without_user, *states), a, b, recipe.eta)
    with torch.no_grad():
        reference, _ = ddim_step(pairs.z_t, guided(policy.of_reference, *states), a, b, recipe.eta)

    def log_p(z_s: Tensor, mean: Tensor) -> Tensor:  # up to what cancels in a ratio
        return -((z_s - mean).square() / (2 * std.square())).mean((1, 2, 3))

    return torch.stack([log_p(z_s, mean) - log_p(z_s, reference) for z_s in (pairs.winner, pairs.loser)])


def guided(denoise: Denoise, z: Tensor, t: Tensor, text: Tensor, negative_text: Tensor, guidance: float) -> Tensor:
    """ε_neg + g·(ε_cond − ε_neg) in one pass of 2B; both texts (G, 77, D), a row for B/G neighbours."""
    both = denoise(torch.cat([z, z]), torch.cat([t, t]), torch.cat([negative_text, text]))
    negative, conditional = both.chunk(2)
    return negative + guidance * (conditional - negative)
