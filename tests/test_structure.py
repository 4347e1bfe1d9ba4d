"""Tests mirror the code, folder by folder and file by file: a/b/c.py is tested by tests/a/b/test_c.py.

A long one may be split by topic: test_c_<topic>.py. What cannot mirror stands below with its reason.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
ELSEWHERE = {"protos": ("protos", "protos/client/perfusion/client")}  # folder of tests → where its code lies
WHOLE = {  # folders and modules of tests that are about several modules at once
    "integration": "all services on the real parts, by what a client sees",
    "deploy": "scripts and clusters: a test stands for what is started, not for the script that starts it",
    "test_structure.py": "this rule",
    "services/test_settings_documented.py": "the settings of all services",
    "services/test_without_torch.py": "the imports of all services",
    "services/test_full_disk.py": "what the services begin and finish while a disk is full",
    "services/test_every_place.py": "the places that list all services",
    "protos/test_docs.py": "what docs/ says of the API",
    "protos/test_published_api.py": "the API files as they were published",
}
LEAST_LINES = 60  # of a module of training/ that needs a test module
UNTESTED: dict[str, str] = {}  # module → why it has none


def modules(folder: Path, pattern: str = "*.py") -> list[Path]:
    """In a fixed order, without caches."""
    return sorted(path for path in folder.rglob(pattern) if "__pycache__" not in path.parts)


def is_whole(test: Path) -> bool:
    """Whether a test module is listed, or lies in a folder that is."""
    place = test.relative_to(TESTS)
    return any(str(part) in WHOLE for part in (place, *place.parents))


def mirrored(test: Path) -> Path | None:
    """The module that a test module is about: of the longest name that its own begins with."""
    first, *folders = test.relative_to(TESTS).parent.parts or ("",)
    words = test.stem.removeprefix("test_").split("_")
    for n in range(len(words), 0, -1):
        name = "_".join(words[:n])
        for root in ELSEWHERE.get(first, (first,)):
            for found in (f"{name}.py", f"_{name}.py", f"__{name}__.py"):  # private ones and entry points, too
                if (path := ROOT.joinpath(root, *folders, found)).is_file():
                    return path
    return None


@pytest.mark.parametrize("test", modules(TESTS, "test_*.py"), ids=lambda test: str(test.relative_to(TESTS)))
def test_a_test_module_mirrors_a_module(test: Path) -> None:
    assert is_whole(test) or mirrored(test), f"there is no module that {test.relative_to(ROOT)} mirrors"


def needs_tests(module: Path) -> bool:
    """Everything of the contract, and of training whatever is long enough to hold logic."""
    if module.name == "__init__.py":
        return False
    return "contract" in module.parts or len(module.read_text(encoding="utf-8").splitlines()) > LEAST_LINES


def test_every_module_with_logic_has_a_test_module() -> None:
    tested = {mirrored(test) for test in modules(TESTS, "test_*.py")}
    wanted = [path for part in ("contract", "training") for path in modules(ROOT / part) if needs_tests(path)]
    without = {str(path.relative_to(ROOT)) for path in wanted if path not in tested}
    assert sorted(without - UNTESTED.keys()) == [], "write tests/…/test_<module>.py, or give a reason in UNTESTED"
    assert sorted(UNTESTED.keys() - without) == [], "these are tested, short or gone: take them off UNTESTED"


def test_what_is_listed_is_there() -> None:
    gone = [name for name in WHOLE if not (TESTS / name).exists()]
    assert gone == [], "take them off WHOLE"


def test_folders_of_tests_are_packages_with_tests_in_them() -> None:
    """Helpers are imported as tests.<folder>.<module>, and an empty folder says nothing."""
    folders = [path for path in (TESTS, *TESTS.rglob("*/")) if path.is_dir() and path.name != "__pycache__"]
    for folder in folders:
        held = [path for path in folder.rglob("test_*.py") if "__pycache__" not in path.parts]
        assert held == [] or (folder / "__init__.py").is_file(), f"{folder} lacks __init__.py"
        assert held or not any(folder.glob("*.py")), f"{folder} has no tests"


@pytest.mark.parametrize(
    ("test", "module"),
    [
        ("training/models/test_family.py", "training/models/family.py"),
        ("training/models/test_family_without_an_adapter.py", "training/models/family.py"),
        ("training/models/test_nothing.py", None),
        ("training/test_family.py", None),
        ("protos/test_client.py", "protos/client/perfusion/client/_client.py"),
    ],
)
def test_the_longest_name_that_a_test_begins_with_is_its_module(test: str, module: str | None) -> None:
    assert mirrored(TESTS / test) == (module and ROOT / module)
