"""The page's web server: a connection on which nothing comes to its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from services.studio import serving
from services.studio.serving import Http

HEAD = b"GET / HTTP/1.1\r\nhost: studio.example\r\n"


async def page(_scope: Any, _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    await asyncio.sleep(0.5)  # longer than a head may take: it has come
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"fine"})


def talk(*lines: bytes) -> tuple[bytes, bool]:
    """What the server says after each of these, and whether it then hangs up by itself."""

    async def play() -> tuple[bytes, bool]:
        server = uvicorn.Server(
            uvicorn.Config(page, port=0, http=Http, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1)
        )
        serve = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname()[:2])
        said = b""
        try:
            for count, line in enumerate(lines, 1):
                writer.write(line)
                while line.endswith(b"\r\n\r\n") and said.count(b"fine") < count:
                    said += await reader.read(4096)
            return said, await asyncio.wait_for(reader.read(), 10) == b""
        except TimeoutError:
            return said, False
        except ConnectionResetError:
            return said, True
        finally:
            writer.close()
            server.should_exit = True
            await serve

    return asyncio.run(play())


@pytest.mark.parametrize("lines", [(), (HEAD,), (HEAD + b"\r\n", HEAD)], ids=["nothing", "half", "half of a second"])
def test_half_a_head_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, lines: tuple[bytes, ...]) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.2)
    said, is_over = talk(*lines)
    assert is_over
    assert said.endswith(b"fine") == (len(lines) > 1)


def test_a_connection_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.3)
    said, _ = talk(HEAD + b"\r\n", HEAD + b"\r\n")
    assert said.count(b"HTTP/1.1 200") == 2
