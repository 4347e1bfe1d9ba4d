"""Which releases serve a round: those of the arm that contract/rollout.py draws, or the live one where they cannot.

Knows arms, whose failure may not fail a request, and how much of its time that may cost. Does not know how a picture
is made, nor who decided on shares.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from contract.errors import InputError
from contract.release import Release
from contract.rollout import EXPLORATION, LIVE, Rollout, assign
from contract.wishes import EXPLORING_VARIETY
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Order
from services.runtime.deadlines import deadline_in, remaining_s
from services.runtime.errors import FailedPrecondition, PermanentError
from services.runtime.patience import impatient
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
    read: Order  # as models read it, whatever release they are of: by the labels of the live one, which clients know
    arm: str  # of contract.rollout.ARMS
    propensity: float  # the chance of this arm over all merchants and requests
    release: Release  # that ranks the group and gives it its number
    drawn_by: tuple[Release, ...]  # of each candidate, in the order of their seeds
    trial_release: int | None = None  # of a mixed group, also of one that the live release makes instead
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

    @contextmanager
    def serving(self, release: Release, limit_s: float | None = None) -> Iterator[None]:
        """What goes wrong inside is CannotServe, unless the live release would do no better.

        So it would where `release` is the live one, where the request itself is at fault, and where its time is up. A
        release beside the live one has `limit_s`, or half of the time that is left, and is not waited for until it is
        revived: the live release needs time, too.
        """
        if self.instead is None or release.number == self.instead.release.number:
            yield
            return
        try:
            with deadline_in(remaining_s(math.inf) / 2 if limit_s is None else limit_s), impatient():
                yield
        except PermanentError:
            raise
        except Exception as error:
            remaining_s(math.inf)  # DeadlineExceeded where the caller's own time is up
            raise CannotServe(release.number) from error


class Assigner:
    """Plans rounds by the rollout as it is when each request comes."""

    def __init__(self, releases: Releases, metrics: GenerationMetrics) -> None:
        self._releases = releases
        self._metrics = metrics
        self._complaint = ""  # about the rollout, so that each is logged once

    def plan(self, order: Order, live: Release) -> Plan:
        """The releases of an order; the live one alone where the rollout or another release cannot be read."""
        drawn = assign(
            self._rollout(),
            live.number,
            order.user_id,
            order.request_id,
            order.num_candidates,
            may_explore=order.may_explore,
        )
        if drawn.arm == EXPLORATION:
            order = replace(order, settings=replace(order.settings, variety=EXPLORING_VARIETY))
        drawn_by = (live,) * order.num_candidates
        read = order.canonical(live.vocabulary)
        by_live = Plan(order, read, drawn.arm, drawn.propensity, live, drawn_by, drawn.trial_release)
        if drawn.arm in (LIVE, EXPLORATION):
            return by_live
        # While what was drawn cannot be, the live arm has the chance of both.
        instead = replace(by_live, arm=LIVE, propensity=drawn.chance_of_live + drawn.propensity)
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
