"""Files that are on disk, whole, once written: what was acknowledged must outlive a power loss.

It knows the order that file systems ask for (write, fsync, rename, fsync the folder), not what the files hold.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path


def write_durably(
    path: Path, content: bytes, scratch: Path, *, renaming: AbstractContextManager[object] | None = None
) -> None:
    """Replaces a file's content, or makes it: a reader sees the old or the new one, also after a power loss.

    `scratch` is a name on the same file system, where the content is written first; nothing stays there, whatever
    fails. Folders are made where they lack. `renaming` is held while the file gets its name.

    Raises:
        OSError: the content is not on disk; what was under `path` before is still there.
    """
    for folder in (scratch.parent, path.parent):
        make_folder(folder)
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with renaming or nullcontext():
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder with all above it, each on disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Puts a folder's names on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
