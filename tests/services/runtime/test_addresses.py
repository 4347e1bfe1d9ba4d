"""Hosts and ports in all their spellings, and sockets on each."""

import ipaddress
import socket
from pathlib import Path

import pytest

from services.runtime.addresses import CannotListen, bare, joined, listening

HAS_IPV6 = socket.has_ipv6 and bool(socket.has_dualstack_ipv6())


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("::", "[::]:80"),
        ("[::1]", "[::1]:80"),
        ("fe80::1", "[fe80::1]:80"),
        ("127.0.0.1", "127.0.0.1:80"),
        ("shop", "shop:80"),
    ],
)
def test_an_ipv6_host_gets_its_brackets_once(host: str, address: str) -> None:
    assert joined(host, 80) == address
    assert joined(bare(host), 80) == address


@pytest.mark.parametrize(
    ("host", "reached_by"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
        pytest.param("::1", ["::1"], marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")),
        pytest.param("[::1]", ["::1"], marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")),
        pytest.param("::", ["127.0.0.1", "::1"], marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")),
    ],
)
async def test_sockets_of_a_host_are_all_on_one_port(host: str, reached_by: list[str]) -> None:
    bound = await listening(host, 0, "PERFUSION_PORT")
    [port] = {each.getsockname()[1] for each in bound}
    try:
        for each in reached_by:
            socket.create_connection((each, port), timeout=10).close()
    finally:
        for each in bound:
            each.close()


def link_local() -> str | None:
    """An IPv6 address of this machine that holds within one of its networks alone, such as fe80::1%eth0."""
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.is_file() else ():
        digits, _, _, _, _, device = line.split()
        if digits.startswith("fe80"):
            return f"{ipaddress.ip_address(bytes.fromhex(digits))}%{device}"
    return None


@pytest.mark.skipif(not HAS_IPV6 or link_local() is None, reason="no link-local IPv6 here")
async def test_an_address_of_one_network_keeps_its_network() -> None:
    host = link_local()
    assert host is not None
    [bound] = await listening(host, 0, "PERFUSION_PORT")
    socket.create_connection((host, bound.getsockname()[1]), timeout=10).close()
    bound.close()


async def test_a_port_in_use_names_its_setting_and_leaves_no_socket() -> None:
    [taken] = await listening("127.0.0.1", 0, "PERFUSION_PORT")
    port = taken.getsockname()[1]
    with pytest.raises(CannotListen, match=rf"127.0.0.1:{port}.*PERFUSION_METRICS_PORT.*in use"):
        await listening("127.0.0.1", port, "PERFUSION_METRICS_PORT")
    taken.close()


async def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(CannotListen, match=r"nowhere\.invalid:0"):
        await listening("nowhere.invalid", 0, "PERFUSION_PORT")
