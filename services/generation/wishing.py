"""The wishes of a round: the phrases that each candidate's text gets for the merchant, and their weight.

contract/wishes.py selects the phrases for a prompt and a merchant. This module adds the rules of a round: each
candidate has its own noise, wishes that do not fit the text encoder's tokens are dropped, and adapter_scale weighs the
wishes' effect on the text states. Knows phrases, and text states as arrays; no models.
"""

from collections.abc import Callable, Sequence

from numpy import float32
from numpy.typing import NDArray

from contract.release import Release
from contract.wishes import VARIETY, wishes, with_wishes
from services.generation.orders import Order, User
from services.generation.seeds import choice_noise_of

TextStates = NDArray[float32]  # (T, D)


def wishes_of(
    order: Order, user: User, release: Release, seeds: Sequence[int], unread: Callable[[str], Sequence[str]]
) -> list[tuple[str, ...]]:
    """Each candidate's wishes, those first that the merchant favours most; they depend on its own seed alone.

    Args:
        unread: a prompt's phrases that the text encoder does not read, because they do not fit.
    """
    settings = order.settings
    if settings.adapter_scale == 0:
        return [()] * len(seeds)
    noise = choice_noise_of(seeds, release.manifest.in_use.phrases)  # (B, V)
    variety = VARIETY if settings.variety is None else settings.variety
    wished = [
        wishes(release.vocabulary, order.prompt, user.favours, of, settings.refused_wishes, variety) for of in noise
    ]
    return [_that_fit(order.prompt, of_candidate, unread) for of_candidate in wished]


def blended(plain: TextStates, wished: TextStates, adapter_scale: float) -> TextStates:
    """plain + s·(wished − plain), computed so that s = 0 gives exactly `plain` and s = 1 exactly `wished`."""
    s = float32(adapter_scale)
    return (1 - s) * plain + s * wished


def _that_fit(prompt: str, wished: Sequence[str], unread: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """Drops the least favoured wishes, which are last, until the text encoder reads all of the rest."""
    left_out = unread(prompt)
    return next(
        (tuple(wished[:n]) for n in range(len(wished), 0, -1) if unread(with_wishes(prompt, wished[:n])) == left_out),
        (),
    )
