"""Atomic writes: complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lie_sim.files import replacing, write_atomically


def content(folder: Path) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in folder.iterdir()]


def permissions(file: Path) -> int:
    return file.stat().st_mode & 0o777


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_whole_file_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    for text in (b"long old content", b"new"):
        assert write_atomically(target, text) == target
        assert content(target.parent) == [("file", text)]


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(
    tmp_path: Path, mask: int, expected: int
) -> None:
    with umask(mask):
        assert permissions(write_atomically(tmp_path / "file", b"new")) == expected


def test_also_where_the_writer_puts_a_private_file_in_place_of_ours(tmp_path: Path) -> None:
    """As safetensors does."""
    with umask(0o022), replacing(tmp_path / "file") as temporary:
        (tmp_path / "private").touch(mode=0o600)
        (tmp_path / "private").replace(temporary)
    assert permissions(tmp_path / "file") == 0o644


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_replaced_file_keeps_its_permissions_and_is_never_more_open_on_the_way(
    tmp_path: Path, mode: int
) -> None:
    target = write_atomically(tmp_path / "file", b"old")
    target.chmod(mode)
    with umask(0o022), replacing(target) as temporary:
        temporary.write_bytes(b"new")
        assert permissions(temporary) & ~(mode | 0o600) == 0
    assert permissions(target) == mode
    assert target.read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def fail(self: Path, other: Path) -> None:
        raise OSError("no rename")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no rename"):
        write_atomically(target, b"new")
    assert content(tmp_path) == [("file", b"old")]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def interrupted() -> None:
        with replacing(target) as temporary:
            temporary.write_bytes(b"half")
            assert target.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(tmp_path) == [("file", b"old")]
