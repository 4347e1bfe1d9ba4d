"""SPO's step-aware preference model (Liang et al., 2024): a CLIP that scores pictures of any denoising step.

A PickScore-like `CLIPModel` whose vision tower takes the noise level: every LayerNorm of its layers becomes adaptive,
norm(h)·(1 + γ(t)) + β(t) with γ and β zero at first, so that it starts equal to its CLIP. Its input is the picture
that the generator predicts at that step (x̂_0 decoded), which is nearer to CLIP's training pictures than a noisy one.
Knows CLIP and noise levels; neither U-Nets nor losses.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPModel

from training.models.tokens import without_padding

TIME_CHANNELS = 64


class StepAwarePreference(nn.Module):
    """exp(logit_scale)·cos(E_img(x̂_0, t), E_txt(y)); everything trains but the scale."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(True)
        self.clip.logit_scale.requires_grad_(False)
        layers, width = clip.vision_model.encoder.layers, clip.config.vision_config.hidden_size
        self.norms = [norm for layer in layers for norm in (layer.layer_norm1, layer.layer_norm2)]
        self.time = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU())
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in self.norms)
        for modulation in self.modulations:
            nn.init.zeros_(modulation.weight)
            nn.init.zeros_(modulation.bias)

    def forward(self, pixels: Tensor, t: Tensor, input_ids: Tensor) -> Tensor:
        """Scores of groups: (B, K, 3, H, W) normalised, levels (B,), (B, 77) → (B, K)."""
        with self._at(t.repeat_interleave(pixels.shape[1])):
            pooled = self.clip.vision_model(pixel_values=pixels.flatten(0, 1)).pooler_output
        images = normalize(self.clip.visual_projection(pooled), dim=-1).unflatten(0, pixels.shape[:2])  # (B, K, e)
        ids = without_padding(input_ids, self.clip.config.text_config.eos_token_id)
        texts = normalize(self.clip.text_projection(self.clip.text_model(input_ids=ids).pooler_output), dim=-1)
        return self.clip.logit_scale.exp() * (images * texts.unsqueeze(1)).sum(-1)

    @contextmanager
    def _at(self, t: Tensor) -> Iterator[None]:
        """The norms adapted to levels (N,) during one pass."""
        time = self.time_mlp(self.time(t))  # (N, W)
        handles = [
            norm.register_forward_hook(_modulate(*modulation(time).unsqueeze(1).chunk(2, dim=-1)))
            for norm, modulation in zip(self.norms, self.modulations, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _modulate(gamma: Tensor, beta: Tensor):
    def hook(_: nn.Module, __: tuple[Tensor, ...], normed: Tensor) -> Tensor:
        return normed * (1 + gamma) + beta

    return hook
