"""One client's connection is closed by its name in gRPC, and no other."""

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from services.runtime.connections import close


def has(family: socket.AddressFamily, host: str) -> bool:
    try:
        with socket.socket(family) as tried:
            tried.bind((host, 0))
    except OSError:
        return False
    return True


IPV6 = pytest.mark.skipif(not has(socket.AF_INET6, "::1"), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("listen", "connect", "name"),
    [
        ("127.0.0.1", "127.0.0.1", "ipv4:127.0.0.1:{}"),
        pytest.param("::1", "::1", "ipv6:%5B::1%5D:{}", marks=IPV6),
        pytest.param("::", "127.0.0.1", "ipv4:127.0.0.1:{}", marks=IPV6),
    ],
)
def test_a_clients_connection_is_closed_and_the_others_stay(listen: str, connect: str, name: str) -> None:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    both = listen == "::"
    with closing(socket.create_server((listen, 0), family=family, dualstack_ipv6=both)) as server:
        port = server.getsockname()[1]
        with (
            closing(socket.create_connection((connect, port))) as slow,
            closing(server.accept()[0]) as accepted,
            closing(socket.create_connection((connect, port))) as other,
            closing(server.accept()[0]) as others,
        ):
            assert close(name.format(slow.getsockname()[1]))
            slow.settimeout(30)
            assert slow.recv(1) == b"" == accepted.recv(1)
            others.sendall(b"x")
            other.settimeout(30)
            assert other.recv(1) == b"x"


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/a:1", "ipv4:127.0.0.1:1", "ipv4:127.0.0.1:x", "ipv6:%5B::1%5D:1"])
def test_a_peer_that_is_not_there_closes_nothing(peer: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w"), closing(socket.socket(socket.AF_UNIX)):
        before = os.listdir("/proc/self/fd")
        assert not close(peer)
        assert os.listdir("/proc/self/fd") == before
