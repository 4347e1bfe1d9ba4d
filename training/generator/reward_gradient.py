"""The adapter by the reward's gradient: PerFusionRM looks at the picture that a single denoising step predicts.

    ε    = ε_∅ + g·(ε_θ − ε_∅), the guided prediction; g = 1: the conditional one
    ẑ_0  = (z_t − √(1 − ᾱ_t)·ε) / √ᾱ_t, decoded by the VAE; ẑ_ref the same by the frozen U-Net alone
    gain = [r(ẑ_0; u) − ν·r(ẑ_0; u')] − [r(ẑ_ref; u) − ν·r(ẑ_ref; u')]
    loss = mean(−gain + λ·‖ε_θ − ε_ref‖²) + μ·[mean(c(ẑ_ref) − c(ẑ_0))]₊

r is PerFusionRM's score for the merchant u, who is drawn independently of the picture: what is learnt comes from the
reward alone. u' is another merchant of the batch: with a contrast ν of 1, what pleases everybody gains nothing, and
only what tells merchants apart is learnt. c is the same CLIP's score without a merchant, which only counts where the
batch's mean falls: PerFusionRM has never seen a picture that misses its prompt, so it does not mind. λ is the leash to
the pictures that the U-Net draws anyway; guidance multiplies what the adapter adds, so it is found at the guidance that
serves. Knows policies, reward models and latents; no command line, no tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.common.errors import ModelError
from training.common.noise import add_noise, predicted_original
from training.generator.recipes import GeneratorRecipe
from training.generator.step import Batch
from training.models.family import FamilyPaths
from training.models.policies import Policy
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM
from training.models.tokens import without_padding

MEASURES = ("loss", "gain", "lost_agreement", "distance")


@dataclass(frozen=True)
class PictureReward:
    """Scores of predicted clean latents, with a gradient to them."""

    model: PerFusionRM
    vae: AutoencoderKL
    preprocess: Preprocess

    @classmethod
    def of(cls, family: FamilyPaths, device: torch.device) -> "PictureReward":
        """The family's, all of it frozen.

        Raises:
            ModelError: the reward model reads other tokens than the pipeline.
            WeightsError: the family has no reward model, or one that does not fit it.
        """
        if family.reward_tokenizer().get_vocab() != family.tokenizer().get_vocab():
            raise ModelError("the pipeline and the reward model have different vocabularies: prompts cannot be shared")
        clip = family.clip()
        model = PerFusionRM.load(family.perfusion_rm, clip, family.schema()).eval().requires_grad_(False)
        vae = family.vae().eval().requires_grad_(False)
        return cls(model.to(device), vae.to(device), family.preprocess(clip).to(device))

    def __call__(self, z_0: Tensor, input_ids: Tensor, features: Sequence[Tensor | None]) -> list[Tensor]:
        """Scores (B,) of latents (B, C, S, S) and prompts (B, 77), by each profile (B, F); None: no merchant."""
        ids = without_padding(input_ids, self.model.clip.config.text_config.eos_token_id)
        images = self.vae.decode(z_0 / self.vae.config.scaling_factor).sample.clamp(-1, 1)
        pixels = self.preprocess.of_exact((images + 1) * 127.5)
        return [self._score(pixels, ids, users) for users in features]

    def _score(self, pixels: Tensor, ids: Tensor, features: Tensor | None) -> Tensor:
        rm = self.model
        plugin, scale = rm.plugin_of("vision"), rm.clip.logit_scale.float().exp()
        user = None if plugin is None or features is None else plugin.represent(features)
        scores: Tensor = scale * (rm.embed_image(pixels, user) * rm.embed_text(ids, features)).sum(-1)
        return scores


def losses_by_reward(
    recipe: GeneratorRecipe,
    policy: Policy,
    reward: PictureReward,
    batch: Batch,
    input_ids: Tensor,
    alphas_bar: Tensor,
    no_text: Tensor,
) -> tuple[Tensor, Tensor]:
    """The losses (B,) of groups of one image, with prompts (B, 77); and MEASURES' sums and counts, (4, 2).

    `no_text`, (1, 77, D), is what guidance leads away from.
    """
    alpha_bar = alphas_bar[batch.t]  # (B,)
    z_t = add_noise(batch.z_0[:, 0], batch.eps, alpha_bar)
    with torch.autocast(z_t.device.type, torch.bfloat16, enabled=recipe.bf16):
        predicted = policy(z_t, batch.t, batch.text, batch.features)
    assert predicted.reference is not None
    eps, reference = predicted.policy.float(), predicted.reference.float()
    whose = [batch.features, None, *([batch.features.roll(1, 0)] if recipe.contrast else [])]
    with torch.no_grad():
        unguided = _unguided(recipe, policy, z_t, batch.t, no_text)
        before = reward(_clean(recipe, z_t, reference, unguided, alpha_bar), input_ids, whose)
    after = reward(_clean(recipe, z_t, eps, unguided, alpha_bar), input_ids, whose)
    own, plain, *others = (new - old for new, old in zip(after, before, strict=True))
    gain = own - recipe.contrast * others[0] if others else own
    lost, distance = (-plain.mean()).relu().expand(len(plain)), (eps - reference).pow(2).mean((1, 2, 3))
    losses = -gain + recipe.agreement * lost + recipe.leash * distance
    sums = torch.stack([each.detach().double().sum() for each in (losses, gain, lost, distance)])
    return losses, torch.stack([sums, torch.full_like(sums, len(losses))], 1)


def _unguided(recipe: GeneratorRecipe, policy: Policy, z_t: Tensor, t: Tensor, no_text: Tensor) -> Tensor | None:
    """ε_∅ of the frozen U-Net; None where guidance changes nothing."""
    if recipe.guidance == 1:
        return None
    with torch.autocast(z_t.device.type, torch.bfloat16, enabled=recipe.bf16):
        return policy.without_user(z_t, t, no_text.expand(len(z_t), -1, -1)).float()


def _clean(recipe: GeneratorRecipe, z_t: Tensor, eps: Tensor, unguided: Tensor | None, alpha_bar: Tensor) -> Tensor:
    """The clean latents that a guided prediction stands for."""
    guided = eps if unguided is None else unguided + recipe.guidance * (eps - unguided)
    return predicted_original(z_t, guided, alpha_bar)
