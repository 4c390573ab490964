"""Files written so that a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder; what was written there is flushed to disk and renamed on leaving.

    If the block raises, ``path`` stays as it was and nothing else is left behind. A file that is replaced keeps its
    permissions; a new one has those that the umask leaves.

    Args:
        path: destination; its folder is created.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("new")
        >>> [(file.name, file.read_text()) for file in folder.iterdir()]
        [('a.txt', 'new')]
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _permissions(path)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    created = _create(temporary, 0o666 if mode is None else mode | 0o600)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(
            created if mode is None else mode
        )  # safetensors puts a private file in our file's place
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a whole file; see :func:`replacing`.

    Args:
        path: destination; its folder is created.
        content: the whole file.

    Returns:
        ``path``.

    Example:
        >>> import tempfile
        >>> write_atomically(Path(tempfile.mkdtemp(), "new", "a.txt"), b"new").read_bytes()
        b'new'
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _permissions(path: Path) -> int | None:
    """Permissions of a file; None if there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _create(path: Path, mode: int) -> int:
    """Make an empty file; its permissions are ``mode`` without the umask, which only the system reads."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    """Make sure that a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
