"""TensorRT for RTX, which builds without a GPU: NVIDIA's parser and builder, as far as they can be tried anywhere.

It is another product than the TensorRT of Triton, with the same Python API and the same ONNX parser; its engines do not
load there. Its wheels are in rtx.lock, and `make tensorrt-check` unpacks them into build/tensorrt-rtx.
"""

import ctypes
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "build" / "tensorrt-rtx"
LIBRARIES = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")


def is_here() -> bool:
    return FOLDER.is_dir()


def library() -> Any:
    """The module, with the API of `tensorrt`."""
    for name in LIBRARIES:
        [path] = (FOLDER / "onnxruntime_ep_nv_tensorrt_rtx").glob(f"{name}.*")
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    sys.path.append(str(FOLDER))
    try:
        return import_module("tensorrt_rtx_bindings")
    finally:
        sys.path.remove(str(FOLDER))
