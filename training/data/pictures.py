"""The bytes of candidates' pictures: from the row itself, from a file, or from wherever fsspec reads.

Knows URIs, files and the failures of networks; nothing about pixels.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec

GIVES_UP_AFTER = 3  # failures of one host or bucket, without a success: the rest would fail as slowly
PATIENCE_S = 30  # for one picture


class Unreachable(Exception):
    """A picture could not be read now; another time it may be. The message is one line."""


def local_path(uri: str) -> Path | None:
    """The file that a URI names, %20 and the like decoded; None: it is not on this machine's disks.

    A URI that was written without encoding names the file just as well.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        raw = uri[len("file:") :].removeprefix(f"//{parts.netloc}") if uri.startswith("file://") else uri[5:]
        decoded = Path(unquote(raw))
        return Path(raw) if not decoded.exists() and Path(raw).exists() else decoded
    return Path(uri) if "://" not in uri and "::" not in uri else None


def stamp(uri: str) -> str:
    """What changes when a file does: its size and time. Pictures elsewhere are taken to stay as they are."""
    path = local_path(uri)
    if path is None:
        return ""
    try:
        found = path.stat()
    except OSError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"


def place_of(uri: str) -> str:
    """The host, bucket or disk of a picture."""
    parts = urlsplit(uri)
    return "local files" if local_path(uri) is not None else f"{parts.scheme}://{parts.netloc}"


@dataclass
class Pictures:
    """Reads pictures by URI; a host or bucket that never answers is given up."""

    failures: Counter[str] = field(default_factory=Counter)  # by place, since the last success
    last: dict[str, str] = field(default_factory=dict)  # why, by place

    def read(self, uri: str) -> bytes:
        """The content of a picture.

        Raises:
            Unreachable: it cannot be read; says why.
        """
        path, place = local_path(uri), place_of(uri)
        if self.failures[place] >= GIVES_UP_AFTER:
            raise Unreachable(f"{self.last[place]} (given up after {GIVES_UP_AFTER} failures)")
        try:
            content = path.read_bytes() if path is not None else _fetched(uri)
        except Exception as error:  # whatever a file system of somebody else's raises
            why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            if not isinstance(error, FileNotFoundError) and path is None:
                self.failures[place] += 1
            self.last[place] = why
            raise Unreachable(why) from error
        self.failures[place] = 0
        return content

    def reaches(self, uri: str) -> bool:
        """Whether a picture can be read now."""
        try:
            self.read(uri)
        except Unreachable:
            return False
        return True


def _fetched(uri: str) -> bytes:
    with fsspec.open(uri, "rb", **_options(uri)) as opened:
        content: bytes = opened.read()
        return content


def _options(uri: str) -> dict[str, object]:
    """Time limits, in each file system's own words."""
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout  # fsspec's own dependency for these

        return {"client_kwargs": {"timeout": ClientTimeout(total=PATIENCE_S)}}
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": 10, "read_timeout": PATIENCE_S, "retries": {"max_attempts": 2}}}
    return {}
