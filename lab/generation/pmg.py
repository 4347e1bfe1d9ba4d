"""PMG (Shen et al., 2024) without its language model: keywords of a merchant's taste in the prompt.

The keywords are the most discriminative phrases of the merchant's history: values that the picks show more often than
the other candidates of their groups. As in PMG, agreement chooses the weight of the preference against the prompt: of
pictures drawn with several weights, the one with the largest d_keywords^α · d_prompt^(1−α), where d is CLIP's agreement
of the picture with either text, mapped to (0, 1). PMG's soft preference embeddings need a tuned language model and are
left out; results are labelled accordingly.
"""

from collections.abc import Sequence

import numpy as np
import torch

from contract.vocabulary import Vocabulary
from contract.wishes import wishes
from lab.generation.artist import Artist
from lab.generation.splits import Rounds
from lab.generation.worth import Judges
from lab.market.attributes import to_indices
from lab.market.prompts import vocabulary
from lab.market.rounds import Round
from training.models.tokens import encode
from training.wishes.tagging import tag_vectors

MOST, LEAST = 5, 0.5  # keywords of a prompt, and how clear each must be
WEIGHTS = (0.0, 0.5, 1.0)  # of the keywords in the text states
ALPHA = 0.5


def draw_with_keywords(artist: Artist, judges: Judges, rounds: Rounds, noise: torch.Tensor) -> np.ndarray:
    """Pictures (M, P, K, H, W, 3); a group's weight is chosen on its first candidate."""
    m, p = rounds.given.shape
    given = rounds.given.ravel()
    favours = np.stack([discriminative(history) for history in rounds.histories()]).repeat(p, axis=0)
    prompts = [rounds.prompts[n] for n in given]
    phrases = vocabulary()
    wished = [_keywords(phrases, prompt, favour) for prompt, favour in zip(prompts, favours, strict=True)]
    plain = artist.states(rounds.prompts)[given]  # (M·P, 77, D)
    with_all = artist.states([",".join([prompt, *words]) for prompt, words in zip(prompts, wished, strict=True)])
    unknown = torch.zeros(m * p, rounds.features.shape[1], dtype=torch.long)
    first = np.stack([
        artist.draw(plain + weight * (with_all - plain), unknown, noise[given, :1], f"weight {weight}")[:, 0]
        for weight in WEIGHTS
    ])  # (W, M·P, H, W, 3)  # fmt: skip
    keywords = [",".join(words) or prompt for words, prompt in zip(wished, prompts, strict=True)]
    chosen = torch.tensor(WEIGHTS)[_agreement(judges, first, keywords, prompts).argmax(0)]  # (M·P,)
    text = plain + chosen.view(-1, 1, 1) * (with_all - plain)
    drawn = artist.draw(text, unknown, noise[given], "with keywords")
    return drawn.reshape(m, p, *drawn.shape[1:])


def _keywords(vocabulary: Vocabulary, prompt: str, favours: np.ndarray) -> list[str]:
    """The clear keywords of the kinds that the prompt leaves open."""
    unclear = [phrase for (_, phrase), favour in zip(vocabulary.phrases, favours, strict=True) if favour < LEAST]
    return wishes(vocabulary, prompt, favours, refused=unclear)[:MOST]


def discriminative(history: Sequence[Round]) -> np.ndarray:
    """How much more often picks show a value than their groups' other candidates, in standard errors, (V,).

    The variance counts half a picture more, so that a value seen once is not clear.
    """
    sizes = vocabulary().sizes
    excess, variance = np.zeros(sum(sizes)), np.full(sum(sizes), 0.5)
    for played in history:
        tags = tag_vectors(np.stack([to_indices(garment) for garment in played.garments]), sizes).numpy()  # (K, V)
        if played.selected.any():
            excess += tags[played.selected].mean(0) - tags.mean(0)
            variance += tags.var(0)
    found: np.ndarray = excess / np.sqrt(variance)
    return found


def _agreement(judges: Judges, images: np.ndarray, keywords: list[str], prompts: list[str]) -> np.ndarray:
    """log of d_keywords^α · d_prompt^(1−α), (W, N), for pictures (W, N, H, W, 3)."""
    found = []
    for texts, share in ((keywords, ALPHA), (prompts, 1 - ALPHA)):
        ids = encode(judges.family.reward_tokenizer(), texts)
        cosine = np.stack([judges.clip_score(pictures, ids) for pictures in images]) / 100  # (W, N)
        found.append(share * np.log((1 + cosine) / 2))
    return np.sum(found, axis=0)
