"""Atomic writes: complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lie_sim.files import replacing, write_atomically


def content(folder: Path) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in folder.iterdir()]


def test_a_whole_file_replaces_the_old_one_and_anyone_may_read_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    for text in (b"long old content", b"new"):
        assert write_atomically(target, text) == target
        assert content(target.parent) == [("file", text)]
    assert target.stat().st_mode & 0o777 == 0o644


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
