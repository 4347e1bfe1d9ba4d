"""The releases on disk: which one is in service, and the manifest of each.

It knows how long a release may be cached, and the error for an absent one. contract/release.py defines the files. It
does not know whether Triton has a release loaded, nor which release should be in service.
"""

from pathlib import Path

from contract.errors import InputError
from contract.release import Release, current_number, read_release, release_dir
from services.runtime.errors import FailedPrecondition, Unavailable


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
            raise FailedPrecondition(f"release {number} is not loaded") from error

    def _read(self, number: int) -> Release:
        if number not in self._known:
            self._known[number] = read_release(release_dir(self._repository, number))
        return self._known[number]
