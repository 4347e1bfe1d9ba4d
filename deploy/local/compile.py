"""Compiles what this project's code imports, once after an installation: `VENV/bin/python -P deploy/local/compile.py`.

Of the 20,000 modules that are installed with torch under a third is ever imported. Each is imported here, which leaves
its bytecode. Needs the standard library alone.
"""

import argparse
import ast
import contextlib
import importlib
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("contract", "services", "training", "lab", "deploy", "tests", "model_repository")
OWN = {*FOLDERS, "perfusion", "triton_python_backend_utils"}
# What libraries import as late as they can, which no file of this project names.
LATE = (
    "diffusers.guiders",
    "matplotlib.figure",
    "moto.s3.responses",
    "moto.server",
    "onnxscript.function_libs.torch_lib.ops",
    "onnxscript.rewriter.onnx_fusions",
    "torch._dynamo",
    "torch._inductor.sizevars",
    "torch.export._draft_export",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._torchlib.ops",
)
WITH_TORCH = {"diffusers", "onnx_ir", "onnxscript", "open_clip", "safetensors", "torch", "transformers"}


def imported() -> Iterator[tuple[str, str]]:
    """Every (module, name) that a file imports from elsewhere; of `import module` the name is empty."""
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from ((node.module, alias.name) for alias in node.names)


def load(names: list[tuple[str, str]]) -> None:
    """A module that this machine cannot import is passed over: what needs it says so."""
    for module, name in names:
        with contextlib.suppress(Exception):
            found = importlib.import_module(module)
            if name:
                getattr(found, name)  # diffusers and transformers import what is asked for


def main() -> None:
    """Two processes, for machines of two cores: half of the time is torch and what imports it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.dont_write_bytecode = False
    names = {(module, name) for module, name in imported() if module.split(".")[0] not in OWN}
    names |= {(module, "") for module in LATE}
    halves: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for module, name in sorted(names):
        halves[module.split(".")[0] in WITH_TORCH].append((module, name))
    processes = [multiprocessing.Process(target=load, args=(half,)) for half in halves]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
