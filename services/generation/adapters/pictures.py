"""Pictures in an object store, named by their content: file:// on one machine, s3:// in the cluster, through fsspec.

It knows the place of bytes, not the group of a picture. fsspec blocks, so every call runs in a thread, and every wait
for it has a time limit.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import fsspec

from services.generation.pictures import object_name
from services.generation.ports import Pictures
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, Unavailable


class FsspecPictures(Pictures):
    """Each picture is a file named by its content."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        # Threads of its own: a store that hangs must not block other work that needs a thread.
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="object-store")
        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    async def put(self, png: bytes) -> str:
        return str(await self._in_thread(self._put, png))

    async def get(self, uri: str) -> bytes:
        return bytes(await self._in_thread(self._get, uri))

    async def check(self) -> None:
        await self._in_thread(self._check)

    async def close(self) -> None:
        """Lets go of the threads, without waiting for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        limit_s = remaining_s(self._timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except TimeoutError as error:
            raise (DeadlineExceeded() if limit_s < self._timeout_s else Unavailable("object store")) from error
        except Exception as error:  # each back end raises its own kind, and none means a fault of the request
            raise Unavailable("object store") from error

    def _put(self, png: bytes) -> str:
        path = f"{self._root}/{object_name(png)}"
        if not self._fs.exists(path):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            # A reader must never see half a picture: write beside, then rename (an S3 object appears whole anyway).
            scratch = f"{path}.{uuid4().hex}"
            self._fs.pipe_file(scratch, png)
            self._fs.mv(scratch, path)
        return str(self._fs.unstrip_protocol(path))

    def _get(self, uri: str) -> bytes:
        return bytes(self._fs.cat_file(self._fs._strip_protocol(uri)))

    def _check(self) -> None:
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.pipe_file(f"{self._root}/.writable", b"")
