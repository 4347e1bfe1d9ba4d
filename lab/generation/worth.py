"""Measures pictures: their attributes by the judge, the scores of four reward models, and the true utility.

The judge is trained on drawings alone and is in no model's loss; the true utility follows from the attributes that it
recognises. The reward models are those of the preference table, seed 0.
"""

import copy
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPModel

from lab.generation.splits import Rounds
from lab.market.attributes import ABSENT, KINDS, diversity, from_indices, to_indices
from lab.market.taste import score, taste_weights
from lab.recogniser.recogniser import Recogniser
from training.common.resampling import Resampler
from training.common.storage import fingerprint
from training.data.groups import GroupTensors
from training.models.family import FamilyPaths
from training.models.tokens import encode
from training.reward.models import Starts, load
from training.reward.recipes import Model
from training.reward.scores import RewardScorer

REWARDS: Mapping[str, Model] = {"aesthetic": "aesthetics", "pickscore": "pickscore", "perfusion_rm": "perfusion_rm"}
SCORES = (*REWARDS, "clip_score")
READS_USER = ("perfusion_rm",)  # the others' scores do not depend on the merchant


@dataclass(frozen=True)
class Judges:
    """The recogniser and the reward models."""

    recogniser: Recogniser
    scorers: Mapping[str, RewardScorer]
    family: FamilyPaths
    clip_scale: float  # the factor from CLIP's logit to 100·cos

    @classmethod
    def of(cls, family: FamilyPaths, recogniser: Path, backbone: CLIPModel, trained: Mapping[str, Path]) -> "Judges":
        """`trained` says where each of REWARDS lies, trained on `backbone`, whose own score is the CLIP score."""
        cpu, schema = torch.device("cpu"), family.schema()

        def scorer(model: Model, path: Path | None) -> RewardScorer:
            clip = copy.deepcopy(backbone)
            network = load(model, path, Starts(clip), schema).eval().requires_grad_(False)
            return RewardScorer(network, family.preprocess(clip), cpu)

        scorers = {name: scorer(model, trained[name]) for name, model in REWARDS.items()}
        scale = 100.0 / backbone.logit_scale.exp().item()
        return cls(Recogniser.load(recogniser), scorers | {"clip_score": scorer("clip_h", None)}, family, scale)

    def fingerprint(self) -> str:
        """A hash of all their weights: a table must not mix numbers of different judges."""
        networks = [self.recogniser.net, *(scorer.model for scorer in self.scorers.values())]
        return hashlib.sha256(" ".join(map(fingerprint, networks)).encode()).hexdigest()[:16]

    def read(self, images: np.ndarray) -> np.ndarray:
        """What the pictures (…, H, W, 3) show, int8 (…, len(KINDS)); ABSENT where the garment has none."""
        return shown_on(images, self.recogniser)

    def clip_score(self, images: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
        """100·cos of pictures (N, H, W, 3) with texts (N, 77), (N,)."""
        unknown = np.zeros((len(images), self.family.schema().n_slots), np.int64)
        return self._score("clip_score", images[:, None], input_ids, unknown)[:, 0]

    def scores(self, rounds: Rounds, images: np.ndarray, names: Collection[str] = SCORES) -> dict[str, np.ndarray]:
        """By reward model, float32 (M, P, K), of pictures for the prompts and their merchants.

        Args:
            images: (M, P, K, H, W, 3), or the pool's (N, K, H, W, 3) where all merchants are shown the same.
            names: of SCORES.
        """
        found, ids = {}, encode(self.family.reward_tokenizer(), list(rounds.prompts))  # (N, 77)
        for name in names:
            if images.ndim == 5 and name not in READS_USER:  # then the score is the same for all merchants
                unknown = np.zeros((len(images), rounds.features.shape[1]), np.int64)
                of_pool = self._score(name, images, ids, unknown)
                found[name] = of_pool[rounds.given]
                continue
            shown = images[rounds.given] if images.ndim == 5 else images
            features = rounds.features.repeat(rounds.given.shape[1], axis=0)
            flat = self._score(name, shown.reshape(-1, *shown.shape[2:]), ids[rounds.given.ravel()], features)
            found[name] = flat.reshape(*rounds.given.shape, -1)
        return found

    def _score(self, name: str, images: np.ndarray, input_ids: np.ndarray, features: np.ndarray) -> np.ndarray:
        """(G, K) of pictures (G, K, H, W, 3) for prompts (G, 77) and profiles (G, F)."""
        nothing = np.zeros(images.shape[:2], bool)
        scores = self.scorers[name].all(
            GroupTensors(self.family.schema(), features, nothing, input_ids[:, None], images=images)
        )
        return scores * self.clip_scale if name == "clip_score" else scores


def shown_on(images: np.ndarray, recogniser: Recogniser) -> np.ndarray:
    """What pictures (…, H, W, 3) show, int8 (…, len(KINDS)); ABSENT where the garment has none."""
    garments = recogniser.read(images.reshape(-1, *images.shape[-3:]))
    return np.stack([to_indices(g) for g in garments]).astype(np.int8).reshape(*images.shape[:-3], len(KINDS))


def true_utility(rounds: Rounds, shown: np.ndarray) -> np.ndarray:
    """The true utility of attributes, int8 (M, P, K, len(KINDS)), to each merchant and prompt; float64 (M, P, K)."""
    found, weights = np.empty(shown.shape[:3]), [taste_weights(who) for who in rounds.merchants]
    for (m, p, k), _ in np.ndenumerate(found):
        found[m, p, k] = score(weights[m], from_indices(shown[m, p, k]), rounds.asked[rounds.given[m, p]])
    return found


def prompt_accuracy(rounds: Rounds, shown: np.ndarray) -> np.ndarray:
    """The share of asked-for values that are present, float64 (M, P, K)."""
    asked = np.full((len(rounds.asked), len(KINDS)), ABSENT)
    for n, values in enumerate(rounds.asked):
        for kind, value in values.items():
            asked[n, KINDS.index(kind)] = to_indices({kind: value})[KINDS.index(kind)]
    wanted = asked[rounds.given][:, :, None]  # (M, P, 1, kinds)
    named = wanted != ABSENT
    hits: np.ndarray = ((shown == wanted) & named).sum(-1) / named.sum(-1)
    return hits


def by_truth(rounds: Rounds, shown: np.ndarray) -> dict[str, np.ndarray]:
    """What the truth says of pictures that show `shown`: true utility and prompt accuracy (M, P, K), the others (M, P).

    The best in a group is the utility of its candidate with the highest utility to its merchant.
    """
    utility = true_utility(rounds, shown)
    return {
        "true_utility": utility,
        "best_in_group": utility.max(-1),
        "prompt_accuracy": prompt_accuracy(rounds, shown),
        "diversity": diversity(shown),
    }


def mean_over_pairs(rounds: Rounds) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Gives the mean of values (M, P) or (M, P, K), and the means of a Resampler's draws of pairs of merchants."""
    sample = Resampler(np.repeat(rounds.pairs, rounds.given.shape[1]))
    return lambda values: sample.mean((values if values.ndim == 2 else values.mean(-1)).reshape(1, -1))
