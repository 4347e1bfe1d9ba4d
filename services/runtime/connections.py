"""Ends the connection of one client, which gRPC's servers cannot do by themselves.

It knows sockets, and how gRPC writes a peer. Linux only: elsewhere it finds none.
"""

import ipaddress
import os
import socket
import stat
from urllib.parse import unquote

DESCRIPTORS = "/proc/self/fd"


def close(peer: str) -> bool:
    """Shuts the connection from the peer down ("ipv4:10.0.0.7:43434"); False when there is none.

    gRPC sees its other end gone, and lets go of every call on it.
    """
    wanted = _address_of(peer)
    found = False
    for descriptor in os.listdir(DESCRIPTORS) if wanted and os.path.isdir(DESCRIPTORS) else ():
        try:
            if not stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(descriptor))) as connection:
                if _plain(*connection.getpeername()[:2]) == wanted:
                    connection.shutdown(socket.SHUT_RDWR)
                    found = True
        except (OSError, ValueError, TypeError):  # not connected, of another kind, or gone meanwhile
            continue
    return found


def _address_of(peer: str) -> tuple[str, int] | None:
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    return _plain(host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") and port.isdecimal() else None


def _plain(host: str, port: int) -> tuple[str, int]:
    """An IPv4 address as such, also where a socket for both kinds has it."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), port
