"""The Dockerfiles: linted, pinned, and what they copy is all that the image's commands import.

No image is built here; a folder with the copied files stands for one.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.layout import clean_environment, venv
from tests.deploy.k8s.manifests import ROOT, build, runs

IMAGES = ROOT / "deploy" / "images"
FOLDERS = sorted(path.name for path in IMAGES.iterdir() if path.is_dir())
LOCKS = sorted(IMAGES.glob("requirements-*.lock"))
ENVIRONMENTS = {
    "services": "services",
    "training": "",
    "tensorrt": "",
}  # image → the virtual environment of the same packages
COPY = re.compile(r"^COPY (?!--from)(\S+) (\S+)$", re.MULTILINE)


def dockerfile(image: str) -> str:
    return (IMAGES / image / "Dockerfile").read_text()


@pytest.mark.parametrize("image", FOLDERS)
def test_a_dockerfile_is_linted(image: str) -> None:
    program = venv("") / "bin" / "hadolint"
    said = subprocess.run([program, IMAGES / image / "Dockerfile"], capture_output=True, text=True, check=False)
    assert said.stdout + said.stderr == ""


@pytest.mark.parametrize("image", FOLDERS)
def test_an_image_is_pinned_and_without_root(image: str) -> None:
    text = dockerfile(image)
    versions = dict(re.findall(r"^ARG (\w+)=(\S*)$", text, re.MULTILINE))
    for name, variable, digest in re.findall(r"^FROM (\S+):\$\{(\w+)\}\$\{(\w+)\}", text, re.MULTILINE):
        assert re.search(r"\d+\.\d+", versions[variable]), f"{name} has no version"
        assert digest in versions
    assert len(re.findall("^FROM ", text, re.MULTILINE)) == len(re.findall(r"^FROM \S+_DIGEST\}", text, re.MULTILINE))
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["65532:65532"]
    if "pip install" in text:
        assert "--require-hashes" in text


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+) ", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_an_image_has_the_versions_that_are_tested(lock: Path) -> None:
    tested = pins(ROOT / "requirements.lock")
    assert {
        name: (version, tested.get(name)) for name, version in pins(lock).items() if tested.get(name) != version
    } == {}


def test_only_the_training_image_has_torch() -> None:
    has = {lock.stem.removeprefix("requirements-"): "torch" in pins(lock) for lock in LOCKS}
    assert has == {"services": False, "tensorrt": False, "training": True}


@pytest.mark.parametrize("image", FOLDERS)
def test_what_is_copied_is_sent_to_the_builder(image: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for source, _ in COPY.findall(dockerfile(image)):
        path = Path(source)
        assert any(path.match(each) or path.is_relative_to(each) or Path(each).is_relative_to(path) for each in sent), (
            source
        )


@pytest.mark.parametrize(("image", "environment"), ENVIRONMENTS.items())
def test_what_is_copied_is_all_that_its_commands_import(image: str, environment: str, tmp_path: Path) -> None:
    for source, target in COPY.findall(dockerfile(image)):
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns(
                "__pycache__", "weights", "[0-9]*", "releases" if "model" in source else ""
            )
            shutil.copytree(ROOT / source, tmp_path / target, ignore=ignored)
        else:
            (tmp_path / target.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / target.lstrip("/"))
    imports = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    path = re.findall(r"PYTHONPATH=(\S+)", dockerfile(image))[0].replace("/app", str(tmp_path))
    told = clean_environment() | {"PYTHONPATH": path}
    command = [venv(environment) / "bin" / "python", "-c", imports, *modules_of(image, tmp_path)]
    said = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr[-2000:]


def modules_of(image: str, copied: Path) -> list[str]:
    """What manifests run in an image, and what operators do."""
    others = {
        "services": ["deploy.releases.__main__", "services.erasure", "services.generation.sweep"],
        "tensorrt": ["deploy.tensorrt.__main__"],
        "training": ["training.retraining.retrain", "training.retraining.gate", "training.exporting.export"],
    }
    mine = {
        module
        for _, container in build("tensorrt").containers()
        for module in runs(container)
        if container["image"].partition(":")[0] == f"perfusion-{image}"
    }
    entry = {each: f"{each}.__main__" if (copied / each.replace(".", "/")).is_dir() else each for each in mine}
    return sorted({*entry.values(), *others[image]})
