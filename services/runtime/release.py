"""The releases on disk: which one is in service, who else gets which, and the manifest of each.

It knows how long a release may be cached, and the errors for one that is absent or not loaded. contract/release.py and
contract/rollout.py define the files. It does not know which release should be in service.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from contract.errors import InputError
from contract.release import Release, current_number, read_release, release_dir
from contract.repository import Repository
from contract.rollout import Rollout, read_rollout
from services.runtime.errors import FailedPrecondition, Unavailable
from services.runtime.patience import impatient
from services.runtime.triton import NotLoaded


class Releases:
    """A release never changes, so each is read once; which one is in service is read every time."""

    def __init__(self, model_repository: Path) -> None:
        self._repository = model_repository
        self._known: dict[int, Release] = {}

    def current(self) -> Release:
        """The release in service; Unavailable while there is none."""
        try:
            return self._read(current_number(self._repository))
        except InputError as error:
            raise Unavailable("release", "in service cannot be read") from error

    def rollout(self) -> Rollout:
        """Who gets another release than the one in service; ManifestError when it cannot be read."""
        return read_rollout(self._repository)

    async def check(self) -> None:
        """Returns when the release in service can be read; Unavailable when it cannot."""
        self.current()

    def get(self, number: int) -> Release:
        """The release of that number, 0 meaning the one in service; FailedPrecondition when it is not there."""
        if number == 0:
            return self.current()
        try:
            return self._read(number)
        except InputError as error:
            raise _not_loaded(number) from error

    @contextmanager
    def serving(self, number: int) -> Iterator[Release]:
        """The release of that number, as `get` has it, for work on its models inside.

        A dead model is waited for in the release in service alone: a caller that names another one can do without it.

        Raises:
            FailedPrecondition: Triton has not loaded it and need not: no request is served by it unless it is named.
        """
        release = self.get(number)
        try:
            with nullcontext() if self._is_in_service(release) else impatient():
                yield release
        except NotLoaded as error:
            if number == 0 or self._is_needed(number):
                raise  # Triton has just started, say
            raise _not_loaded(number) from error

    def _is_in_service(self, release: Release) -> bool:
        try:
            return release.number == current_number(self._repository)
        except InputError:  # which one is, nobody can say now
            return True

    def _is_needed(self, number: int) -> bool:
        try:
            return number in Repository(self._repository).needed()
        except InputError:  # which are needed, nobody can say now
            return True

    def _read(self, number: int) -> Release:
        if number not in self._known:
            self._known[number] = read_release(release_dir(self._repository, number))
        return self._known[number]


def _not_loaded(number: int) -> FailedPrecondition:
    return FailedPrecondition(f"release: release {number} is not loaded", field="release")
