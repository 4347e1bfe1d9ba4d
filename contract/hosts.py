"""Hosts, as settings and addresses name them. It knows names and numbers; it asks no name server."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host, an IPv6 one with or without brackets, is this machine alone."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"
