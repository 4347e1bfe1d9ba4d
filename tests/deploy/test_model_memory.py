"""What the models held: looks of changing models, and the growth that fails a soak."""

import os

import pytest

from deploy.benchmarks.model_memory import EVERY, MOST_GROWTH, WARM_UP, Held, own_mib


def looks(of_denoiser: list[float]) -> Held:
    """A look every hundred steps at a denoiser and a server of 100 MiB."""
    held = Held()
    for place, mib in enumerate(of_denoiser):
        held.note(EVERY * (place + 1), {"denoiser": mib, "triton": 100.0})
    return held


def test_growth_is_from_the_first_tenth_after_the_warm_up_to_the_last() -> None:
    warming = [10.0] * (WARM_UP // EVERY)
    flat = looks([*warming, *[300.0] * 40])
    assert flat.growth() == 1.0
    leaking = looks([*warming, *[300.0 + look for look in range(40)]])  # MiB
    assert leaking.growth() == pytest.approx((300 + 37.5 + 100) / (300 + 1.5 + 100)) and leaking.growth() > MOST_GROWTH


def test_a_model_that_is_loaded_later_held_nothing_before() -> None:
    held = looks([300.0])
    held.note(200, {"triton": 100.0, "denoiser": 300.0, "vae_decoder": 50.0})
    held.note(300, {"triton": 100.0})
    assert held.own_mib["vae_decoder"] == [0.0, 50.0, 0.0] and held.total() == [400.0, 450.0, 100.0]


def test_a_process_holds_what_it_uses_and_one_that_has_ended_nothing() -> None:
    before = own_mib(os.getpid())
    used = b"x" * (64 * 2**20)
    assert own_mib(os.getpid()) > before + 60 and len(used)
    assert own_mib(2**30) == 0.0
