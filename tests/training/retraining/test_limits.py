"""Limits become options with their meaning as help, and come back from the command line."""

import argparse
from dataclasses import dataclass

import pytest

from training.retraining.limits import add_limits, limit, limits_of


@dataclass(frozen=True)
class Limits:
    most_groups: int = limit(5, "groups, 100% of them")
    share: float = limit(0.5, "a share")


def test_each_limit_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_limits(parser, Limits)
    assert limits_of(parser.parse_args([]), Limits) == Limits() == Limits(5, 0.5)
    assert limits_of(parser.parse_args(["--most-groups", "7"]), Limits) == Limits(most_groups=7)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "groups, 100% of them (default: 5)" in capsys.readouterr().out
