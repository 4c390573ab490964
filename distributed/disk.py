"""The few things that a store does with files: each is done completely, or not at all.

    write:  create, write, fsync          the content is on the disk before anything refers to it
    link:   create the name if absent     one of two writers wins, the other is told; no reader sees a part
    sync:   fsync the folder              the name is on the disk

``rename`` would replace what another process committed meanwhile; ``link`` cannot.
"""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """A POSIX file system.

    Args:
        durable: wait until content and names are on the disk; without it, a power failure may lose or cut files.

    Example:
        >>> import tempfile
        >>> disk, folder = Disk(), Path(tempfile.mkdtemp())
        >>> disk.write(folder / "a", b"content")
        >>> disk.link(folder / "a", folder / "b"), disk.link(folder / "a", folder / "b")
        (True, False)
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable

    def write(self, path: Path, content: bytes) -> None:
        """A new file; it is removed again if it could not be written."""
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if self.durable:
                os.fsync(descriptor)
        except OSError:
            self.remove(path)
            raise
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> bool:
        """Give a file a second name; False if that name is taken."""
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        return True

    def move(self, source: Path, target: Path) -> bool:
        """Give a file another name; False if it is not there any more."""
        try:
            source.rename(target)
        except FileNotFoundError:
            return False
        return True

    def sync(self, folder: Path) -> None:
        """Make sure that the names in a folder are on the disk."""
        if not self.durable:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)
