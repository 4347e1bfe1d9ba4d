"""Small disks that can be filled and made unwritable while programs use them: ext4 in a file, mounted by loop device.

Knows mount, ext4 and its immutable flag, which need root. Does not know what lies on a disk.
"""

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BALLAST = "ballast"
BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Disk:
    """A disk of so many MiB at a folder."""

    folder: Path
    size_mib: int

    @property
    def _image(self) -> Path:
        return self.folder.with_name(self.folder.name + ".ext4")

    def mount(self) -> None:
        """Makes it, empty."""
        self.unmount()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self.size_mib * 2**20)
        _run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self.folder))
        (self.folder / "lost+found").rmdir()

    def unmount(self) -> None:
        """Takes it away with all that lies on it; nothing, where there is none."""
        if os.path.ismount(self.folder):
            self.make_writable()
            _run("umount", "-l", str(self.folder))
        self._image.unlink(missing_ok=True)

    def fill(self) -> None:
        """Leaves no free block."""
        with (self.folder / BALLAST).open("ab", buffering=0) as ballast:
            for size in (BLOCK_BYTES, 512):
                with suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass

    def empty(self) -> None:
        """Gives the room back."""
        (self.folder / BALLAST).unlink(missing_ok=True)

    def make_read_only(self) -> None:
        """Nothing on it can be written, renamed or made, also by programs that hold it open; a remount would refuse.

        But SQLite's shared memory: writing to what is mapped would kill the program, which no read-only disk does.
        """
        paths = [self.folder, *self.folder.rglob("*")]
        _run("chattr", "+i", *(str(path) for path in reversed(paths) if not path.name.endswith("-shm")))

    def make_writable(self) -> None:
        """Undoes it."""
        _run("chattr", "-R", "-i", str(self.folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
