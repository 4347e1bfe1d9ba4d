"""How a model of a release is run on a GPU: by ONNX Runtime, by it with TensorRT's provider, or by a TensorRT plan.

One setting says which, and each way's configuration is made from the model's config.pbtxt at every load. A plan lies
beside the graph that it was built from, once it has passed its check (deploy/tensorrt). All versions of a model share
one configuration, so a plan runs only where every version has one. Knows Triton's model configuration and files;
neither TensorRT nor servers.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from contract.errors import InputError
from contract.release import ModelFiles, model_dir

VARIABLE = "PERFUSION_TENSORRT"
OFF, PROVIDER = "off", "provider"
PLAN = "model.plan"  # beside model.onnx
RECIPES = 1  # counts changes of what plans are built by: older plans are then built again
CACHE = "/tensorrt"  # a volume of the pod: the provider's engines and timings
WORKSPACE_BYTES = 4 << 30
_TARGET = re.compile(r"(\d+(?:\.\d+)+)-sm(\d{2,3})")


class SettingError(InputError):
    """The setting says none of what there is."""


@dataclass(frozen=True)
class Target:
    """What a plan is built for, written as 11.4.0.106-sm89."""

    tensorrt: str  # version
    capability: str  # compute capability, without its point

    def __str__(self) -> str:
        return f"{self.tensorrt}-sm{self.capability}"


@dataclass(frozen=True)
class Setting:
    """Off, the provider, or plans for a target."""

    provider: bool = False
    target: Target | None = None

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """What the variable or the option says; nothing is off.

        Raises:
            SettingError: names the setting, and what it may be.
        """
        if text in ("", OFF):
            return cls()
        if text == PROVIDER:
            return cls(provider=True)
        if found := _TARGET.fullmatch(text):
            return cls(target=Target(*found.groups()))
        raise SettingError(
            f"{text!r} (say, of ${VARIABLE}) is neither {OFF} nor {PROVIDER} nor the TensorRT and the GPU that plans "
            "are for, such as 11.4.0.106-sm89"
        )


ONNX_RUNTIME = Setting()


def argument(text: str) -> Setting:
    """The same for argparse."""
    try:
        return Setting.parse(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def key(entry: ModelFiles, contract: str) -> str:
    """What names a model's plan, beside its target: its graph's files, its config.pbtxt and how plans are built."""
    of = {"files": dict(entry.files), "contract": hashlib.sha256(contract.encode()).hexdigest(), "recipes": RECIPES}
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def ways(setting: Setting, root: Path, config: Any, versions: Iterable[int]) -> list[Any]:
    """The configurations by which these versions of a model may run, best first; the last one is ONNX Runtime alone.

    Args:
        config: the model's config.pbtxt, or what it is loaded with.
    """
    if setting == ONNX_RUNTIME:
        return [config]  # as it is: whatever it says is wanted
    plain = by_onnx_runtime(config)
    if setting.provider:
        return [by_provider(config), plain]
    planned = all((model_dir(root, config.name, version) / PLAN).is_file() for version in versions)
    return [by_plan(config), plain] if planned else [plain]


def by_onnx_runtime(config: Any) -> Any:
    """ONNX Runtime alone, as in the committed contracts."""
    found = _copy(config)
    found.backend, found.platform, found.default_model_filename = "onnxruntime", "", ""
    found.optimization.ClearField("execution_accelerators")
    if not found.optimization.ListFields():
        found.ClearField("optimization")
    return found


def by_provider(config: Any) -> Any:
    """ONNX Runtime with TensorRT's execution provider, in float32, whose engines are built at a load.

    What TensorRT cannot run stays with CUDA's provider.
    """
    found = by_onnx_runtime(config)
    usual = max((warmup.batch_size for warmup in config.model_warmup), default=1)
    profile = {"min": 1, "opt": min(usual, max(config.max_batch_size, 1)), "max": max(config.max_batch_size, 1)}
    accelerator = found.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    told = {
        "precision_mode": "FP32",
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": f"{CACHE}/{config.name}",
        "trt_timing_cache_enable": "true",
        "trt_timing_cache_path": CACHE,
    }
    for name, batch in profile.items():
        shapes = (f"{each.name}:{'x'.join(map(str, (batch, *each.dims)))}" for each in config.input)
        told[f"trt_profile_{name}_shapes"] = ",".join(shapes)
    for name, value in told.items():
        accelerator.parameters[name] = value
    return found


def by_plan(config: Any) -> Any:
    """Triton's TensorRT backend. ONNX Runtime's parameters mean nothing to it."""
    found = by_onnx_runtime(config)
    found.backend, found.default_model_filename = "tensorrt", PLAN
    for name in ("intra_op_thread_count", "inter_op_thread_count", "allow_spinning"):
        if name in found.parameters:
            del found.parameters[name]
    return found


def _copy(config: Any) -> Any:
    found = model_config_pb2.ModelConfig()
    found.CopyFrom(config)
    return found
