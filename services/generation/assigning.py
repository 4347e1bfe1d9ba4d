"""Which releases serve a round: those of the arm that contract/rollout.py draws, or the live one where they cannot.

Knows arms, and whose failure may not fail a request. Does not know how a picture is made, nor who decided on shares.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from contract.errors import InputError
from contract.release import Release
from contract.rollout import EXPLORATION, FEWEST_MIXED, LIVE, MIXED, Assignment, Rollout, assign
from contract.wishes import EXPLORING_VARIETY
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Order
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, PermanentError
from services.runtime.release import Releases

_log = logging.getLogger(__name__)


class CannotServe(Exception):
    """A release beside the live one could not do its part; `__cause__` says why."""

    def __init__(self, release: int) -> None:
        super().__init__(f"release {release} cannot serve")
        self.release = release


@dataclass(frozen=True)
class Plan:
    """An order, and the releases that serve it."""

    order: Order  # as its arm makes it
    arm: str  # of contract.rollout.ARMS
    propensity: float  # the chance of this arm over all merchants and requests
    release: Release  # that ranks the group and gives it its number
    drawn_by: tuple[Release, ...]  # of each candidate, in the order of their seeds
    instead: "Plan | None" = None  # by the live release alone; None where it serves alone already

    @property
    def parts(self) -> list[tuple[Release, list[int]]]:
        """Each release that draws, with the places of its candidates in the order of seeds."""
        found = {release.number: release for release in self.drawn_by}
        numbers = [release.number for release in self.drawn_by]
        return [
            (release, [place for place, number in enumerate(numbers) if number == release.number])
            for release in found.values()
        ]

    @property
    def trial_release(self) -> int | None:
        """The release on trial in a mixed group."""
        return next((r.number for r in self.drawn_by if r.number != self.release.number), None)

    @contextmanager
    def serving(self, release: Release) -> Iterator[None]:
        """What goes wrong inside is CannotServe, unless the live release would do no better.

        So it would where `release` is the live one, where the request itself is at fault, and where its time is up.
        """
        try:
            yield
        except (PermanentError, DeadlineExceeded):
            raise
        except Exception as error:
            if self.instead is None or release.number == self.instead.release.number:
                raise
            raise CannotServe(release.number) from error


class Assigner:
    """Plans rounds by the rollout as it is when each request comes."""

    def __init__(self, releases: Releases, metrics: GenerationMetrics) -> None:
        self._releases = releases
        self._metrics = metrics
        self._complaint = ""  # about the rollout, so that each is logged once

    def plan(self, order: Order, live: Release) -> Plan:
        """The releases of an order; the live one alone where the rollout or another release cannot be read."""
        rollout = self._rollout()
        drawn = assign(
            rollout,
            live.number,
            order.user_id,
            order.request_id,
            order.num_candidates,
            may_explore=order.may_explore,
        )
        if drawn.arm == EXPLORATION:
            order = replace(order, settings=replace(order.settings, variety=EXPLORING_VARIETY))
        by_live = Plan(order, drawn.arm, drawn.propensity, live, (live,) * order.num_candidates)
        if drawn.arm in (LIVE, EXPLORATION):
            return by_live
        instead = replace(by_live, arm=LIVE, propensity=_chance_of_live_instead(rollout, drawn, order, live))
        found = {live.number: live}
        for number in {drawn.release, *drawn.drawn_by} - found.keys():
            try:
                found[number] = self._releases.get(number)
            except FailedPrecondition:
                self.taken_over(by_live, CannotServe(number))
                return instead
        drawn_by = tuple(found[number] for number in drawn.drawn_by)
        return replace(by_live, release=found[drawn.release], drawn_by=drawn_by, instead=instead)

    def taken_over(self, plan: Plan, failure: CannotServe) -> None:
        """Counts and logs that the live release makes a round of this plan."""
        self._metrics.taken_over.labels(failure.release, plan.arm).inc()
        _log.warning(
            "%s; the live release makes the round", failure, exc_info=failure.__cause__, extra={"arm": plan.arm}
        )

    def _rollout(self) -> Rollout:
        try:
            rollout, complaint = self._releases.rollout(), ""
        except InputError as error:
            rollout, complaint = Rollout(), str(error)
            self._metrics.unreadable_rollouts.inc()
        if complaint and complaint != self._complaint:
            _log.error("the live release serves everybody: %s", complaint)
        self._complaint = complaint
        return rollout


def _chance_of_live_instead(rollout: Rollout, drawn: Assignment, order: Order, live: Release) -> float:
    """The chance of the live arm while what was drawn cannot be: that of both arms together."""
    served = 1 - rollout.holdback_share
    exploration = rollout.exploration_share if order.may_explore else 0.0
    if drawn.arm == MIXED:
        return served * (1 - exploration)
    can_mix = rollout.trial not in (None, live.number) and order.num_candidates >= FEWEST_MIXED
    return 1 - served * (exploration + (rollout.mixed_share if can_mix else 0.0))
