"""Every service imports in its own environment, where there is no torch."""

import subprocess

import pytest

from deploy.local.layout import Layout, venv
from deploy.local.parts import SERVICES, service_environment

FORBIDDEN = ("torch", "torchvision", "diffusers", "transformers", "onnx", "onnxruntime", "training", "lab")
SCRIPT = """
import importlib, importlib.util, sys
assert importlib.util.find_spec("torch") is None, "torch is installed where services run"
importlib.import_module("services.{name}.__main__")
print(sorted(set({forbidden!r}) & set(sys.modules)))
"""


@pytest.mark.parametrize("name", [*SERVICES, "studio"])
def test_a_service_imports_without_torch(name: str) -> None:
    script = SCRIPT.format(name=name, forbidden=FORBIDDEN)
    python = str(venv("services") / "bin" / "python")
    environment = service_environment(Layout(), name)
    answer = subprocess.run([python, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"
