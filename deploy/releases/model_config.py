"""config.pbtxt of a model repository, and what Triton is told at a load: the whole of it, with the versions to serve.

Knows Triton's model configuration; neither servers nor which release is to be served.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from contract.errors import ManifestError, reading
from contract.tensors import Shapes


def of_repository(repository: Path, model: str) -> Any:
    """A model's config.pbtxt as a ModelConfig.

    Raises:
        ManifestError: it is missing or out of form.
    """
    path = repository / model / "config.pbtxt"
    with reading(path, ManifestError):
        text = path.read_text(encoding="utf-8")
        try:
            return text_format.Parse(text, model_config_pb2.ModelConfig())
        except text_format.ParseError as error:
            raise ManifestError(str(error)) from error


def serving(config: Any, versions: Iterable[int]) -> str:
    """The override of a load: this configuration as JSON, with exactly these versions."""
    said = model_config_pb2.ModelConfig()
    said.CopyFrom(config)
    said.version_policy.Clear()
    said.version_policy.specific.versions.extend(sorted(versions))
    return json_format.MessageToJson(said, preserving_proto_field_name=True)


def check_shapes(config: Any, shapes: Shapes) -> None:
    """Refuses a configuration whose tensors have other dimensions than a release's.

    Raises:
        ManifestError: names the tensor.
    """
    for tensor in (*config.input, *config.output):
        found, wanted = tuple(tensor.dims), shapes.get(tensor.name)
        if wanted is not None and found != wanted:
            raise ManifestError(
                f"{config.name}: config.pbtxt has {tensor.name} {list(found)}, the release {list(wanted)}: "
                "other sizes need a repository of their own"
            )


def sample(config: Any) -> dict[str, npt.NDArray[Any]]:
    """One sample of zeros for every input."""
    rows = [1] if config.max_batch_size > 0 else []
    return {tensor.name: np.zeros([*rows, *tensor.dims], dtype_of(tensor)) for tensor in config.input}


def outputs(config: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What one sample gives: name and shape."""
    rows = [1] if config.max_batch_size > 0 else []
    return ((tensor.name, (*rows, *tensor.dims)) for tensor in config.output)


def dtype_of(tensor: Any) -> Any:
    """The NumPy type of a tensor in a configuration."""
    return triton_to_np_dtype(model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_"))
