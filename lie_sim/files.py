"""Files written so that a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder; what was written there is flushed to disk and renamed on leaving.

    If the block raises, ``path`` stays as it was and nothing else is left behind.

    Args:
        path: destination; its folder is created.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("new")
        >>> [(file.name, file.read_text()) for file in folder.iterdir()]
        [('a.txt', 'new')]
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o644)
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
        >>> write_atomically(Path(tempfile.mkdtemp(), "new", "a.txt"), b"new").read_bytes()
        b'new'
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _flush(path: Path) -> None:
    """Make sure that a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
