"""Ends the build of the image when TensorRT's bindings are not those of the libraries that the image has."""

import ctypes

import tensorrt_bindings

major, minor, patch = map(int, tensorrt_bindings.__version__.split(".")[:3])
wanted, found = 10_000 * major + 100 * minor + patch, ctypes.CDLL(f"libnvinfer.so.{major}").getInferLibVersion()
if found != wanted:
    raise SystemExit(f"the image has TensorRT {found}, bindings-tensorrt.lock {wanted}: name the same version there")
