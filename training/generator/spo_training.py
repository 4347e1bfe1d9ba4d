"""The training of SPO: first the step-aware preference model, then the U-Net with it as the critic.

`python -m training.generator.train_spo` is the command. Knows groups, recipes and policies; no command line, no tables.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from training.common.errors import ModelError
from training.common.loop import Stateful, fit, warmup_cosine
from training.common.noise import add_noise, predicted_original
from training.common.objectives import pairwise_cross_entropy, step_preference
from training.common.storage import check_origin, fingerprint, write_origin
from training.common.workers import Workers
from training.data.groups import GroupTensors
from training.generator.batches import GeneratorBatches, check_latents
from training.generator.recipes import GeneratorRecipe
from training.generator.spo import Critic, Pairs, StepLevels, draw_pairs, log_ratios
from training.generator.spo_recipes import SpoRecipe, SpoRecipes, StepAwareRecipe
from training.models.family import FamilyPaths
from training.models.frozen_unet import decode, encode, load_unet
from training.models.policies import TunedUNet
from training.models.step_aware import StepAwarePreference


class StepAwareTraining:
    """The preference model on groups whose pictures are noised to one level and predicted back."""

    def __init__(self, recipe: StepAwareRecipe, groups: GroupTensors, family: FamilyPaths, unet: Path | None) -> None:
        if family.reward_tokenizer().get_vocab() != family.tokenizer().get_vocab():
            raise ModelError("the pipeline and the reward model have different vocabularies: prompts cannot be shared")
        self.recipe, self.device = recipe, Workers().device
        shape = GeneratorRecipe("group", recipe.steps, recipe.lr, groups_per_batch=recipe.groups_per_batch)
        shape = replace(shape, levels="uniform", feature_dropout=0.0, seed=recipe.seed)
        self.batches = GeneratorBatches(groups, family, shape, self.device)
        self.unet = (load_unet(unet) if unet else family.unet()).to(self.device)
        check_latents(groups, self.unet)
        torch.manual_seed(recipe.seed)
        self.critic = untrained_critic(family, self.device)
        self.alphas_bar = family.noise_scheduler().alphas_cumprod.to(self.device)
        trained = [parameter for parameter in self.critic.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, recipe.lr, weight_decay=recipe.weight_decay)
        self.schedule = warmup_cosine(self.optimizer, recipe.warmup_steps, recipe.steps)
        self.made_with = recipe.made_with() | {"groups": groups.fingerprint(), "unet": fingerprint(self.unet)}

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step."""
        plan = self.batches.plan(n)
        batch = self.batches.batch(plan, np.arange(len(plan)))
        b, k = batch.selected.shape
        alpha_bar = self.alphas_bar[batch.t]  # (B,)
        with torch.no_grad():
            z_t = add_noise(batch.z_0, batch.eps.unsqueeze(1), alpha_bar).flatten(0, 1)  # (B·K, C, S, S)
            eps = decode(self.unet, encode(self.unet, z_t, batch.t.repeat_interleave(k), batch.text))
            z_0 = predicted_original(z_t, eps, alpha_bar.repeat_interleave(k))
        ids = torch.tensor(self.batches.groups.input_ids[plan.rows, plan.wordings], device=self.device)
        scores = self.critic(z_0.unflatten(0, (b, k)), batch.t, ids)  # (B, K)
        losses = pairwise_cross_entropy(scores, batch.selected, batch.selected | batch.others, ties=True)
        self.optimizer.zero_grad()
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.critic.model.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        best = scores.detach().masked_fill(~(batch.selected | batch.others), -torch.inf).argmax(1, keepdim=True)
        right = batch.selected.gather(1, best).float().mean()
        return {"loss": losses.mean().item(), "top_1": right.item(), "grad_norm": norm.item()}

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        return {"model": self.critic.model, "optimizer": self.optimizer, "schedule": self.schedule}


class SpoTraining:
    """The U-Net, round by round."""

    def __init__(
        self, recipe: SpoRecipe, groups: GroupTensors, family: FamilyPaths, unet: Path | None, critic: Critic
    ) -> None:
        self.recipe, self.device, self.critic = recipe, Workers().device, critic
        critic.model.eval().requires_grad_(False)
        start = (load_unet(unet) if unet else family.unet()).to(self.device)
        check_latents(groups, start)
        self.policy = TunedUNet(start)
        prompts = GeneratorRecipe("sft", recipe.rounds, recipe.lr, groups_per_batch=recipe.prompts, seed=recipe.seed)
        self.batches = GeneratorBatches(groups, family, prompts, self.device)
        self.levels = StepLevels.of(family.noise_scheduler(), recipe.denoising_steps, self.device)
        self.optimizer = torch.optim.AdamW(self.policy.unet.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        made_of = {"groups": groups.fingerprint(), "unet": fingerprint(start), "critic": fingerprint(critic.model)}
        self.made_with = recipe.made_with() | made_of

    def step(self, n: int) -> dict[str, float]:
        """One round: draws prompts and trains once on every clear pair."""
        plan, generator = self.batches.plan(n), torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + n)
        ids = torch.tensor(self.batches.groups.input_ids[plan.rows, plan.wordings], device=self.device)
        text = self.batches.text.of(plan.rows, plan.wordings)
        none = self.batches.no_text.expand_as(text)
        pairs, scores = draw_pairs(
            self.policy, self.critic, text, none, ids, self.levels, self.recipe, generator
        )  # fmt: skip
        row = {"score": scores.mean().item(), "pairs": float(len(pairs))}
        order = torch.randperm(len(pairs), generator=generator).to(self.device)
        learnt = [self._learn(pairs.rows(rows)) for rows in order.split(self.recipe.pairs_per_batch) if len(rows)]
        means = torch.stack(learnt).mean(0).tolist() if learnt else [0.0, 1.0, 1.0]
        return row | dict(zip(("loss", "winner", "loser"), means, strict=True))

    def _learn(self, pairs: Pairs) -> Tensor:
        """One optimizer step; the loss and both mean ratios, (3,)."""
        self.optimizer.zero_grad()
        measured = []
        for part in torch.arange(len(pairs), device=self.device).split(self.recipe.pairs_at_once):
            some = pairs.rows(part)
            log_rho = log_ratios(self.policy, some, self.batches.no_text, self.levels, self.recipe)  # (2, n)
            losses = step_preference(*log_rho, self.recipe.beta, self.recipe.clip)
            (losses.sum() / len(pairs)).backward()
            measured.append(torch.stack([losses.detach(), *log_rho.detach().exp()]))
        torch.nn.utils.clip_grad_norm_(self.policy.unet.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        return torch.cat(measured, dim=1).mean(1)

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from round to round."""
        return {"network": self.policy.unet, "optimizer": self.optimizer}


def untrained_critic(family: FamilyPaths, device: torch.device) -> Critic:
    """The family's CLIP, not yet step-aware, with its VAE and preprocessing."""
    clip = family.clip()
    preprocess = family.preprocess(clip).to(device)
    return Critic(StepAwarePreference(clip).to(device), family.vae().to(device), preprocess)


def train(recipe: SpoRecipes, groups: GroupTensors, family: FamilyPaths, out: Path, unet: Path | None = None) -> Path:
    """Both stages from a U-Net directory (without it, the family's), resumable; returns out/spo/unet."""
    origin = family.generator_origin()
    check_origin(unet or family.pipeline / "unet", origin)
    saved = out / "step_aware" / "model.safetensors"
    first = StepAwareTraining(recipe.step_aware, groups, family, unet)
    fit(saved.parent, recipe.step_aware.steps, first.step, first.state(), made_with=first.made_with)
    save_file({name: value.contiguous() for name, value in first.critic.model.state_dict().items()}, saved)
    second = SpoTraining(recipe.spo, groups, family, unet, first.critic)
    fit(out / "spo", recipe.spo.rounds, second.step, second.state(), log_every=1, made_with=second.made_with)
    kept = second.policy.save(out / "spo")
    write_origin(kept, origin)
    return kept
