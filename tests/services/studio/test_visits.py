"""Where a browser may be sent."""

import pytest

from services.studio.visits import own_path


@pytest.mark.parametrize("path", ["/", "/groups/1?x=1", "/history?page=%2F%2Fx", "/?prompt=连衣裙"])
def test_to_the_studios_own_pages(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "https://evil.example",
        "javascript:alert(1)",
        "//[",
        "http://[",
    ]
    + ["//℀.com", "/a\r\nset-cookie: x", "/a\0", "/a\\b", "///evil.example"],
)
def test_and_nowhere_else(path: str) -> None:
    assert own_path(path, "/otherwise") == "/otherwise"
