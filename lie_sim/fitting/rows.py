"""The rows of a file, with their numbers: comma-separated values or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from lie_sim.errors import DataError


def rows_of(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """The header, then every row that is not blank, as text; of CSV with the number of the line.

    Raises:
        DataError: the file is neither, or the package for Parquet is missing.
    """
    return _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)


def _csv(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Lines and their cells, without blank lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            reader = csv.reader(
                file, delimiter=max(",;\t", key=first.count), skipinitialspace=True, strict=True
            )
            yield from ((reader.line_num, row) for row in reader if row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"it is no table of comma-separated values in UTF-8: {error}") from error


def _parquet(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError("reading Parquet needs the package pyarrow: pip install pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"it is no Parquet file: {error}") from error
    yield 0, table.column_names
    for number, row in enumerate(
        zip(*(column.to_pylist() for column in table.columns), strict=True), start=1
    ):
        yield number, ["" if cell is None else str(cell) for cell in row]
