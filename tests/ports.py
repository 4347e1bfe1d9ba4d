"""Ports for a cluster of the tests' own, beside other clusters and other checkouts' tests on one machine."""

from deploy.local.cluster import is_taken
from deploy.local.layout import METRICS_OFFSET, PORTS

FIRST = 11_300  # beyond the ports that the system gives to outgoing connections
LAST = 14_000
STEP = 10


def free_offset() -> int:
    """A port offset at which every part of a cluster can listen."""
    ports = [*PORTS.values(), *(port + METRICS_OFFSET for port in PORTS.values())]
    for offset in range(FIRST, LAST, STEP):
        if not any(is_taken(port + offset) for port in ports):
            return offset
    raise RuntimeError("every range of ports for a test cluster is in use")
