"""Pictures in an object store, named by their content: file:// on one machine, s3:// in the cluster, through fsspec.

It knows the place of bytes, not the group of a picture. fsspec blocks, so every call runs in a thread, and every wait
for it has a time limit. A picture is on disk before `put` returns, and its hash is checked whenever it is read.
"""

import asyncio
import errno
import fcntl
import logging
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from contract import limits
from services.generation.pictures import SCRATCH, Loss, name_in, object_name
from services.generation.ports import Pictures, StoredObject, StoredObjects
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.files import make_folder, write_durably

_log = logging.getLogger(__name__)

_LOCK = ".lock"  # held by all who rename, together; by who deletes, alone
_BLOCK = bytes(4096)  # a probe's content: a full disk has no room for it
_LEAST_PICTURE_BYTES = 2**14  # the largest picture, before one was stored
_OF_ONE_FILE = {errno.EIO, errno.ELOOP, errno.ENOTDIR}  # a remote store's EIO may be any fault of its own
_PROBLEMS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full",
    errno.EFBIG: "is full",
    errno.EROFS: "takes no writes",
    errno.EACCES: "refuses access",
    errno.EPERM: "refuses access",
}


class FsspecPictures(Pictures, StoredObjects):
    """Each picture is an object named by its content.

    The last `remembered_bytes` of pictures that were stored here stay in memory, to repair an object that is lost.
    """

    def __init__(self, url: str, *, timeout_s: float, remembered_bytes: int = 0) -> None:
        self._timeout_s = timeout_s
        # Threads of its own: a store that hangs must not block other work that needs a thread.
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="object-store")
        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._probe = f"{self._root}/{SCRATCH}/probe-{uuid4().hex}"
        self._probing: Future[None] | None = None
        self._remembered = _Remembered(remembered_bytes)
        self._largest_bytes = _LEAST_PICTURE_BYTES
        if self._is_local:  # a new store can be read at once; one whose folder goes later cannot
            with suppress(OSError):
                make_folder(Path(self._root))

    async def put(self, png: bytes) -> str:
        name = object_name(png)
        await self._in_thread(self._put, name, png)
        self._largest_bytes = max(self._largest_bytes, len(png))
        self._remembered.add(name, png)
        return self._uri(name)

    async def get(self, uri: str) -> bytes | Loss:
        path, own = self._paths(uri)
        found: bytes | Loss = await self._in_thread(self._get, path)
        if found is Loss.MISSING and path != own:
            found = await self._in_thread(self._get, own)
        return await self._repair(path, found) if isinstance(found, Loss) else found

    async def check(self) -> None:
        if self._probing is None or self._probing.done():  # one that hangs must not take one thread after another
            self._probing = self._threads.submit(self._check)
        await self._bounded(asyncio.shield(asyncio.wrap_future(self._probing)))

    async def check_reads(self) -> None:
        await self._in_thread(self._check_reads)

    async def folder(self, name: str) -> Sequence[StoredObject]:
        return tuple(await self._in_thread(self._list, name))

    async def now_s(self) -> float:
        return float(await self._in_thread(self._now_s))

    async def delete(self, name: str, *, not_after_s: float) -> bool:
        return bool(await self._in_thread(self._delete, name, not_after_s))

    async def close(self) -> None:
        """Lets go of the threads, without waiting for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _uri(self, name: str) -> str:
        return str(self._fs.unstrip_protocol(f"{self._root}/{name}"))

    def _paths(self, uri: str) -> tuple[str, str]:
        """Where the picture was stored, and where it is if the store was moved with its objects since."""
        own = f"{self._root}/{name_in(uri)}"
        is_ours = uri.partition("://")[0] == self._uri("").partition("://")[0]
        return (str(self._fs._strip_protocol(uri)) if is_ours else own), own

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self._bounded(asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments))

    async def _bounded(self, answer: asyncio.Future[Any]) -> Any:
        limit_s = remaining_s(self._timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError as error:
            raise (DeadlineExceeded() if limit_s < self._timeout_s else Unavailable("object store")) from error
        except Unavailable:
            raise
        except Exception as error:  # each back end raises its own kind, and none means a fault of the request
            number = error.errno if isinstance(error, OSError) else None
            raise Unavailable("object store", _PROBLEMS.get(number or 0, "does not answer")) from error

    async def _repair(self, path: str, loss: Loss) -> bytes | Loss:
        name = name_in(path)
        png = self._remembered.get(name)
        _log.error("a stored picture is lost", extra={"picture": name, "loss": loss.value, "repaired": png is not None})
        if png is None:
            return loss
        with suppress(Unavailable):  # the picture is here, whether or not the store takes it again
            await self._in_thread(self._put, name, png)
        return png

    def _put(self, name: str, png: bytes) -> None:
        """Writes it also where it is: so a damaged object is repaired, and a sweep sees a young one."""
        path = f"{self._root}/{name}"
        if self._is_local:
            if Path(path).is_dir():
                shutil.rmtree(path)
            scratch = Path(self._root, SCRATCH, uuid4().hex)
            write_durably(Path(path), png, scratch, renaming=self._locked(fcntl.LOCK_SH))
        else:
            self._fs.pipe_file(path, png)  # it appears whole, and is kept once acknowledged

    def _get(self, path: str) -> bytes | Loss:
        try:
            png = bytes(self._fs.cat_file(path))
        except FileNotFoundError:
            loss = Loss.MISSING
        except OSError as error:
            is_one = isinstance(error, IsADirectoryError | PermissionError)
            if not is_one and not (self._is_local and error.errno in _OF_ONE_FILE):
                raise
            loss = Loss.DAMAGED
        else:
            return png if path.endswith(object_name(png)) else Loss.DAMAGED
        self._check_reads()  # a store that is not there has lost no picture
        return loss

    def _check(self) -> None:
        if self._is_local:
            make_folder(Path(self._root))
            free = shutil.disk_usage(self._root).free
            if free < limits.MAX_CANDIDATES * self._largest_bytes:
                raise Unavailable("object store", f"is full ({free} bytes left)")
        try:
            if self._is_local:
                write_durably(Path(self._probe), _BLOCK, Path(f"{self._probe}-new"))
            else:
                self._fs.pipe_file(self._probe, _BLOCK)
            read = bytes(self._fs.cat_file(self._probe))
        finally:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._probe)
        if read != _BLOCK:
            raise Unavailable("object store", "gives other bytes than it took")

    def _check_reads(self) -> None:
        try:
            self._fs.ls(self._root, detail=False, refresh=True)
        except FileNotFoundError:
            if self._is_local:
                raise  # elsewhere it means that there is nothing in it

    def _list(self, folder: str) -> list[StoredObject]:
        try:
            infos: Sequence[Mapping[str, Any]] = self._fs.ls(f"{self._root}/{folder}", detail=True, refresh=True)
        except FileNotFoundError:
            return []
        names = {f"{folder}/{info['name'].rpartition('/')[2]}": info for info in infos if info["type"] == "file"}
        return [StoredObject(name, self._uri(name), _modify_time_s(info)) for name, info in names.items()]

    def _now_s(self) -> float:
        path = f"{self._root}/{SCRATCH}/{uuid4().hex}"
        self._fs.makedirs(f"{self._root}/{SCRATCH}", exist_ok=True)
        self._fs.pipe_file(path, _BLOCK)
        try:
            return _modify_time_s(self._fs.info(path, refresh=True))
        finally:
            self._fs.rm_file(path)

    def _delete(self, name: str, not_after_s: float) -> bool:
        path = f"{self._root}/{name}"
        with self._locked(fcntl.LOCK_EX):
            try:
                if _modify_time_s(self._fs.info(path, refresh=True)) > not_after_s:
                    return False
                self._fs.rm_file(path)
            except FileNotFoundError:
                return False
        return True

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Between a deletion's look at an object's age and its end, nobody may write the object anew."""
        if not self._is_local:
            yield
            return
        with open(f"{self._root}/{_LOCK}", "ab") as file:
            fcntl.flock(file, how)
            yield


class _Remembered:
    """The pictures stored last, up to a number of bytes together."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pictures: OrderedDict[str, bytes] = OrderedDict()

    def add(self, name: str, png: bytes) -> None:
        self._bytes += len(png) - len(self._pictures.pop(name, b""))
        self._pictures[name] = png
        while self._bytes > self._most_bytes:
            _, oldest = self._pictures.popitem(last=False)
            self._bytes -= len(oldest)

    def get(self, name: str) -> bytes | None:
        return self._pictures.get(name)


def _modify_time_s(info: Mapping[str, Any]) -> float:
    """Of a file's properties, which each back end spells in its own way."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        if key in info:
            value = info[key]
            return value.timestamp() if isinstance(value, datetime) else float(value)
    raise Unavailable("object store", "tells no object's age")
