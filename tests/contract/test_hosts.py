"""Which hosts are this machine alone."""

import pytest

from contract.hosts import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.9", "::1", "[::1]"])
def test_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "kafka", "localhost.evil", "127.0.0.1.x", "[::2]"])
def test_any_other(host: str) -> None:
    assert not is_loopback(host)
