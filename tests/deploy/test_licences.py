"""No package of an image is under the GPL."""

import pytest

from deploy.licences import IMAGES, Package, packages, pinned
from tests.deploy.k8s.manifests import ROOT


def test_nothing_in_an_image_is_under_the_gpl() -> None:
    found = list(packages())
    assert [f"{each.name} of {each.lock}: {each.licence}" for each in found if each.is_refused] == []
    assert {each.lock for each in found} == set(IMAGES)
    assert len(found) == sum(len(pinned(ROOT / lock)) for lock in IMAGES) > 100
    unsaid = {each.name for each in found if not each.licence}
    assert unsaid <= {"cuda-toolkit"}, "look at its licence, then name it here"


@pytest.mark.parametrize(
    ("licence", "is_refused"),
    [
        ("MIT", False),
        ("LGPL-3.0-only", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("GNU Library General Public License", False),
        ("MPL-2.0 AND MIT", False),
        ("Apache-2.0 OR GPL-3.0-or-later", False),
        ("GPL-3.0-only", True),
        ("AGPL-3.0", True),
        ("MIT AND GPL-2.0-or-later", True),
        ("GPL-2.0 OR AGPL-3.0", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
    ],
)
def test_which_licences_are_refused(licence: str, is_refused: bool) -> None:
    assert Package("a.lock", "a", "1", licence).is_refused == is_refused
