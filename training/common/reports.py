"""Reports as JSON files that every reader accepts: a number that is not finite becomes null, and a file is whole.

JSON has neither NaN nor Infinity, though Python writes both. Knows values; nothing about what they measure.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def as_json(value: Any, indent: int | None = 1) -> str:
    """The value as JSON text; a number that is not finite as null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_report(path: Path, value: Any) -> None:
    """Writes the value as a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(as_json(value) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
