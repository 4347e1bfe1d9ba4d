"""PickScore (Kirstain et al., 2023): a transformers `CLIPModel` fine-tuned on picks, exp(logit_scale)·cos.

Trained by the two-way cross-entropy with soft labels, (½, ½) for ties, each pair weighted by one over
the number of its group's pairs (a prompt that is in several groups is weighted over them by `training.reward.train`);
the scale stays as pre-training left it. The backbone of PerFusionRM in the paper.
The published model is a `CLIPModel` directory and needs no loader of ours. Knows CLIP; no losses, no merchants.
"""

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPModel

from training.models.tokens import without_padding


class PickScore(nn.Module):
    """Scores: pixels (B, K, 3, H, W), input_ids (B, 77) → exp(logit_scale)·cos, (B, K)."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(True)
        self.clip.logit_scale.requires_grad_(False)

    def forward(self, pixels: Tensor, input_ids: Tensor, features: Tensor | None = None) -> Tensor:
        clip, ids = self.clip, without_padding(input_ids, self.clip.config.text_config.eos_token_id)
        images = clip.visual_projection(clip.vision_model(pixel_values=pixels.flatten(0, 1)).pooler_output)
        texts = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)  # (B, e)
        images = normalize(images.float(), dim=-1).unflatten(0, pixels.shape[:2])  # (B, K, e)
        texts = normalize(texts.float(), dim=-1)
        return clip.logit_scale.exp() * (images * texts.unsqueeze(1)).sum(-1)  # (B, K)
