"""Log lines as JSON on standard error, one object a line, with the trace id of the call being served.

What a client sent may stand in them: so everything but ASCII is escaped, and what is long is cut.
"""

import json
import logging
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from contract.tracing import trace_id

LONGEST = 2000  # characters of one text
LONGEST_EXCEPTION = 20_000
MOST_ENTRIES = 50  # of one list or mapping

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """Fields: time, level, service, logger, message, trace_id, exception, and whatever `extra=` gave."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := trace_id():
            line["trace_id"] = trace
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        line = {_short(key): _plain(value) for key, value in line.items()}
        if record.exc_info:
            line["exception"] = _short(self.formatException(record.exc_info), LONGEST_EXCEPTION)
        return json.dumps(line)


def _plain(value: object) -> object:
    """As JSON has it, short enough for a line."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {_short(str(key)): _plain(each) for key, each in list(value.items())[:MOST_ENTRIES]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in list(value)[:MOST_ENTRIES]]
    return _short(str(value))


def _short(text: str, limit: int = LONGEST) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def configure(service: str, level: str) -> None:
    """Sends all logging to standard error as JSON. Called once, by `__main__`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kafka-python reports each reconnection attempt; the health checks already say once that Kafka is away.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
