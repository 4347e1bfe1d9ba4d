"""Which phrases of a vocabulary each candidate of a group shows, so that picks give information about phrases.

The family's CLIP finds them from the pictures, and no label is needed: the category is the one whose text is nearest
to the picture; of every other kind it is the phrase whose text, together with that category, is nearest.

Tags are int64 (N, K, kinds), the place of the phrase among its kind's, ABSENT where a garment has none.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from contract.prompts import folded
from contract.vocabulary import Vocabulary
from training.common.storage import fingerprint
from training.common.workers import Workers
from training.data.groups import GroupError, GroupTensors
from training.models.family import FamilyPaths
from training.models.tokens import encode, without_padding

ABSENT = -1
BATCH = 250  # pictures encoded at once


class Tagger:
    """Tags pictures; CLIP is the family's `reward`, the vocabulary any."""

    @torch.inference_mode()
    def __init__(self, family: FamilyPaths, vocabulary: Vocabulary) -> None:
        clip = family.clip()
        self.how = _digest((vocabulary, fingerprint(clip), family.preprocess(clip).settings), family)
        self.device, self.vocabulary = Workers().device, vocabulary
        self.clip, self.preprocess = clip.to(self.device), family.preprocess(clip).to(self.device)
        tokenizer, end = family.reward_tokenizer(), clip.config.text_config.eos_token_id

        def texts(phrases: Sequence[str]) -> Tensor:  # → (P, e)
            ids = torch.from_numpy(encode(tokenizer, phrases)).to(self.device)
            pooled = clip.text_model(input_ids=without_padding(ids, end)).pooler_output
            return F.normalize(clip.text_projection(pooled), dim=-1)

        categories = vocabulary.category.phrases
        self.of_category = texts(categories)  # (C, e)
        self.of_kinds = [
            torch.stack([texts([f"{category},{phrase}" for phrase in kind.phrases]) for category in categories])
            for kind in vocabulary.kinds[1:]
        ]  # (C, phrases, e) of each

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Tags (N, kinds) of pictures uint8 (N, H, W, 3)."""
        found = np.empty((len(pictures), len(self.vocabulary.kinds)), np.int64)
        for at in range(0, len(pictures), BATCH):
            pixels = self.preprocess(torch.tensor(pictures[at : at + BATCH], device=self.device))
            pooled = self.clip.vision_model(pixel_values=pixels).pooler_output
            seen = F.normalize(self.clip.visual_projection(pooled), dim=-1)
            category = (seen @ self.of_category.T).argmax(1)  # (B,)
            others = [torch.einsum("be,bpe->bp", seen, of_kind[category]).argmax(1) for of_kind in self.of_kinds]
            found[at : at + BATCH] = torch.stack([category, *others], dim=1).cpu().numpy()
        _drop_impossible(found, self.vocabulary)
        return found


def tags_by_clip(groups: GroupTensors, tagger: Tagger) -> np.ndarray:
    """Tags of all candidates.

    Raises:
        GroupError: the groups have no pictures.
    """
    if groups.images is None:
        raise GroupError("what candidates show is read from pictures; these groups have none")
    flat = groups.images.reshape(-1, *groups.images.shape[2:])
    parts = tqdm(range(0, len(flat), BATCH), desc="tagging candidates", mininterval=2)
    return np.concatenate([tagger(flat[at : at + BATCH]) for at in parts]).reshape(*groups.selected.shape, -1)


def tag_vectors(tags: np.ndarray, sizes: Sequence[int]) -> Tensor:
    """One-hot phrases of all kinds, float32 (…, V), of tags (…, kinds); a kind that is absent is all zeros."""
    parts = [
        F.one_hot(torch.tensor(np.where(tags[..., k] == ABSENT, n, tags[..., k])), n + 1) for k, n in enumerate(sizes)
    ]
    return torch.cat([part[..., :-1] for part in parts], dim=-1).float()


def _digest(how: object, family: FamilyPaths) -> str:
    """A hash of everything that tags depend on but the pictures."""
    digest = hashlib.sha256(repr(how).encode())
    digest.update(family.reward_tokenizer().backend_tokenizer.to_str().encode())
    return digest.hexdigest()[:16]


def _drop_impossible(tags: np.ndarray, vocabulary: Vocabulary) -> None:
    """Makes kinds absent, in (N, kinds), that a garment with its other phrases cannot have."""
    names = [kind.name for kind in vocabulary.kinds]
    for k, kind in enumerate(vocabulary.kinds):
        for of, needed in vocabulary.needed_by(kind):
            others = vocabulary.kinds[names.index(of)].phrases
            allowed = np.array([folded(phrase) in needed for phrase in others] + [False])  # ABSENT reads the last
            tags[~allowed[tags[:, names.index(of)]], k] = ABSENT
