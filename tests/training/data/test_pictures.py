"""Pictures by URI: files of any name are found, and what cannot be reached is one line, whoever raises it."""

from pathlib import Path

import fsspec
import pytest

from training.data.pictures import GIVES_UP_AFTER, Pictures, Unreachable, local_path, place_of, stamp


@pytest.mark.parametrize("name", ["a.png", "my pictures/röd ü.png", "100%.png", "a%20b.png", "a#b?.png", "[1]*.png"])
def test_a_file_is_found_by_its_uri_with_or_without_encoding(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"picture")
    for uri in (path.as_uri(), str(path)):
        assert local_path(uri) == path and Pictures().read(uri) == b"picture"
    if "#" not in name:  # which begins a URI's fragment, but in a file's name that is written as it is
        assert Pictures().read(f"file://{path}") == b"picture"


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    stamps = [stamp(path.as_uri())]
    for content in (b"one", b"another"):
        path.write_bytes(content)
        stamps.append(stamp(path.as_uri()))
    assert stamps[0] == "absent" and len(set(stamps)) == 3
    assert stamp("https://somewhere/a.png") == "" and place_of("s3://bucket/a/b.png") == "s3://bucket"


@pytest.mark.parametrize(
    "uri",
    ["file:///no/such.png", "nothing://host/a.png", "http://no-such-host.invalid/a.png", "memory://gone.png", ""],
)
def test_what_cannot_be_reached_is_one_line(uri: str) -> None:
    with pytest.raises(Unreachable) as told:
        Pictures().read(uri)
    assert len(str(told.value).splitlines()) == 1


def test_s3_without_credentials_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(Unreachable, match="Unable to locate credentials"):
        Pictures().read("s3://bucket/a.png")


def test_a_host_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(uri: str, *_: object, **__: object) -> None:
        asked.append(uri)
        raise ConnectionError("no route")

    monkeypatch.setattr(fsspec, "open", refuse)
    pictures = Pictures()
    for n in range(10):
        assert not pictures.reaches(f"ftp://far/{n}.png")
    assert len(asked) == GIVES_UP_AFTER
    assert not pictures.reaches("ftp://elsewhere/0.png") and len(asked) == GIVES_UP_AFTER + 1
