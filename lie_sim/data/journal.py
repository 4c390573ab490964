"""A text file that grows by whole pieces, and the journal that says which pieces are in it.

    FILE                   the pieces, one after another
    FILE.journal.jsonl     {"options": …}, then {…, "end": length of FILE with this piece in it} for each piece

A piece is written and flushed before its line. So at every moment the journal tells the truth: whatever FILE holds
beyond the last "end", and a half-written last line, are remains of an interruption and are cut off.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from lie_sim.errors import DataError


class Journal:
    """The open file and its journal; one process at a time.

    Args:
        path: FILE; its folder is created.
        options: what fixes the pieces, anything JSON can hold.
        digests: of what each piece is made from, in order.
        overwrite: begin again if FILE was made with other options.

    Attributes:
        rows: the lines of the pieces that are there.

    Raises:
        DataError: FILE is there without a journal, was made with other options or from other things, or another process
            writes it; or the journal is damaged.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "numbers.txt")
        >>> for _ in range(2):
        ...     with Journal(file, {"base": 10}, ["a", "b"]) as journal:
        ...         journal.append("1 2 3", {"digest": "ab"[len(journal.rows)]})
        >>> file.read_text()
        '1 2 31 2 3'
    """

    def __init__(
        self, path: Path, options: Mapping[str, Any], digests: Sequence[str], *, overwrite: bool = False
    ) -> None:
        self.path, self.journal = path, path.with_name(path.name + ".journal.jsonl")
        self._header = json.loads(json.dumps({"options": options}))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = self.journal.open("a+b")
        try:
            self._lock()
            self.rows = self._kept(digests, overwrite=overwrite)
            self._data = self._opened()
        except BaseException:
            self._lines.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{self.path} is being written by another process") from error

    def _kept(self, digests: Sequence[str], *, overwrite: bool) -> list[dict[str, Any]]:
        """The pieces that are there and can stay; the journal is cut to them."""
        size = self.path.stat().st_size if self.path.exists() else 0
        found = self._whole_lines()
        if not found and size and not overwrite:
            raise DataError(
                f"{self.path} is there, but without a journal: give another file, or overwrite it"
            )
        rows = [row for row in found[1:] if row["end"] <= size]
        reason = "; ".join(_differences(found[0].get("options"), self._header["options"])) if found else ""
        if not reason and [row["digest"] for row in rows] != list(digests[: len(rows)]):
            reason = "it was made from other structures"
        if reason and not overwrite:
            raise DataError(
                f"{self.path} was made with other options ({reason}): use the same, give another file, or overwrite it"
            )
        rows = [] if reason else rows
        self._rewrite(found[: 1 + len(rows)] if found and not reason else [self._header])
        return rows

    def _whole_lines(self) -> list[dict[str, Any]]:
        content = self.journal.read_bytes()
        try:
            lines = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
            if any("end" not in line or "digest" not in line for line in lines[1:]):
                raise ValueError("a line lacks its end or digest")
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.journal} is damaged ({error}): remove it and {self.path.name}") from error
        return lines

    def _rewrite(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Cut the journal to these first lines of it, or begin it."""
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        if not self.journal.read_bytes().startswith(content):
            self._lines.truncate(0)
            self._lines.write(content)
        self._lines.truncate(len(content))
        self._lines.flush()

    def _opened(self) -> BinaryIO:
        """FILE, cut to its last whole piece."""
        self._end = self.rows[-1]["end"] if self.rows else 0
        data = self.path.open("ab")
        data.truncate(self._end)
        return data

    def append(self, text: str, row: Mapping[str, Any]) -> None:
        """Add a piece, then its line."""
        content = text.encode()
        self._data.write(content)
        self._data.flush()
        self._end += len(content)
        self.rows.append({**row, "end": self._end})
        self._lines.write((json.dumps(self.rows[-1]) + "\n").encode())
        self._lines.flush()

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both files."""
        self._data.close()
        self._lines.close()


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What changed, option by option."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [
            d
            for key in keys
            for d in _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{name} was {before} and is {now}"]
