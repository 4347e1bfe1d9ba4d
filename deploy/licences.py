"""Under which licences the packages are that the images hold: nothing under the GPL or AGPL is linked in.

    python -m deploy.licences     every pinned package of an image, with its licence; 1 where one may not be there

It reads what the packages say of themselves, from the environments on this machine, which `make setup` fills from the
same locks as the images. A licence that names several is one of them ("OR") or all of them.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from deploy.local.layout import ROOT, site_packages

IMAGES = {  # lock of an image → the environment in which its packages are installed here
    "deploy/images/requirements-services.lock": "services",
    "deploy/images/requirements-training.lock": "",
    "deploy/local/triton/requirements.lock": "triton",
}
_REFUSED = re.compile(r"(?<![A-Za-z])A?GPL|(?<!lesser )(?<!library )general public", re.IGNORECASE)
_UNSAID = ("", "UNKNOWN", "Other/Proprietary License")


@dataclass(frozen=True)
class Package:
    """A pinned package; `licence` is "" where it says none."""

    lock: str
    name: str
    version: str
    licence: str

    @property
    def is_refused(self) -> bool:
        """Whether no choice of its licences is free of the GPL."""
        choices = re.split(r"\bOR\b", self.licence)
        return all(_REFUSED.search(choice) is not None for choice in choices)


def packages() -> Iterator[Package]:
    """Of all images."""
    for lock, environment in IMAGES.items():
        installed = {_key(each.name): each for each in distributions(path=[str(site_packages(environment))])}
        for name in pinned(ROOT / lock):
            found = installed.get(_key(name))
            if found is None:
                raise LookupError(f"{name} of {lock} is not installed: run `make setup`")
            yield Package(lock, found.name, found.version, licence_of(found))


def pinned(lock: Path) -> list[str]:
    """The names in a lock."""
    return re.findall(r"^([A-Za-z0-9_.-]+)==", lock.read_text(), re.MULTILINE)


def licence_of(package: Distribution) -> str:
    """As the package says it: by its expression, else its classifiers, else the first line of its text."""
    said = package.metadata
    classifiers = [each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or () if "License ::" in each]
    choices = (said.get("License-Expression"), " and ".join(classifiers), (said.get("License") or "").split("\n")[0])
    return next((each for each in choices if each not in _UNSAID and each), "")


def _key(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def main() -> int:
    found = list(packages())
    for lock in IMAGES:
        print(lock)
        for each in (each for each in found if each.lock == lock):
            print(f"  {each.name:<32} {each.version:<18} {each.licence[:80] or 'says none'}")
    for each in (refused := [each for each in found if each.is_refused]):
        print(f"{each.name} of {each.lock} is under {each.licence}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
