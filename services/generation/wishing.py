"""The wishes of a round: the phrases that each candidate's text gets for the merchant, and how much they count.

Which phrases fit a prompt and a merchant, contract/wishes.py says. Here is what a round adds to it: each candidate has
its own noise, a text is read whole or not wished for, and adapter_scale weighs what the wishes change. Knows words, and
text states as arrays; not what reads the one or makes the other.
"""

from collections.abc import Callable, Sequence

from numpy import float32
from numpy.typing import NDArray

from contract.release import Release
from contract.wishes import wishes, with_wishes
from services.generation.orders import Order, User
from services.generation.seeds import choice_noise_of

TextStates = NDArray[float32]  # (T, D)


def wishes_of(
    order: Order, user: User, release: Release, seeds: Sequence[int], holds: Callable[[str], bool]
) -> list[tuple[str, ...]]:
    """Each candidate's wishes, those first that the merchant favours most; they depend on its own seed alone.

    Args:
        holds: whether the text encoder reads a prompt whole.
    """
    settings = order.settings
    if settings.adapter_scale == 0:
        return [()] * len(seeds)
    noise = choice_noise_of(seeds, release.manifest.in_use.phrases)  # (B, V)
    wished = [wishes(release.vocabulary, order.prompt, user.favours, of, settings.refused_wishes) for of in noise]
    return [_that_fit(order.prompt, of_candidate, holds) for of_candidate in wished]


def blended(plain: TextStates, wished: TextStates, adapter_scale: float) -> TextStates:
    """plain + s·(wished − plain), written so that s = 0 gives the one and s = 1 the other to the last bit."""
    s = float32(adapter_scale)
    return (1 - s) * plain + s * wished


def _that_fit(prompt: str, wished: Sequence[str], holds: Callable[[str], bool]) -> tuple[str, ...]:
    """Without the least favoured, which stand last, until the text encoder reads the prompt with the rest whole."""
    return next((tuple(wished[:n]) for n in range(len(wished), 0, -1) if holds(with_wishes(prompt, wished[:n]))), ())
