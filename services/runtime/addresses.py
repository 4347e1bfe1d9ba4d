"""Where a server listens: a host by name, IPv4 or IPv6, and a port, as gRPC writes it and as sockets.

It knows the forms of hosts. `::` listens to IPv4 as well, and a name to each of its addresses.
"""

import asyncio
import socket


class CannotListen(RuntimeError):
    """A host and port that cannot be listened on."""

    def __init__(self, setting: str, host: str, port: int, problem: str) -> None:
        super().__init__(f"cannot listen on {joined(host, port)}, see PERFUSION_HOST and {setting}: {problem}")


def bare(host: str) -> str:
    """The host without the brackets that an IPv6 address may stand in."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def joined(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    host = bare(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def listening(host: str, port: int, setting: str) -> list[socket.socket]:
    """Sockets bound to every address of the host, all on one port; 0 lets the system choose it.

    Raises:
        CannotListen: the host has no address here, or the port is taken; `setting` says where the port came from.
    """
    loop, bound = asyncio.get_running_loop(), list[socket.socket]()
    try:
        found = await loop.getaddrinfo(bare(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, (address, _, *scope) in dict.fromkeys((each[0], each[4]) for each in found):
            both = family == socket.AF_INET6 and address == "::" and socket.has_dualstack_ipv6()
            bound.append(socket.create_server((address, port, *scope), family=family, dualstack_ipv6=both))
            port = bound[0].getsockname()[1]
    except OSError as error:
        for each in bound:
            each.close()
        raise CannotListen(setting, host, port, error.strerror or str(error)) from error
    return bound
