"""A run as arrays or as a table: zarr and parquet.

Every chunk is read segment by segment, so memory is bounded by one segment.

Shape letters: n trajectories, T frames, F frames of a segment, N particles, d space dimension.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lie_sim.distributed.run import Run
from lie_sim.distributed.run_units import times_and_unit, units_of

_ZARR_ROWS, _ZARR_FRAMES = 64, 256
"""Trajectories and frames of a chunk of zarr, at most."""


def to_zarr(run: Run, path: Path, trajectories: Sequence[int]) -> None:
    """A zarr v3 group with q, p, energy, times, trajectory and masses; one group for every size of systems."""
    import zarr

    root = zarr.create_group(store=str(path), zarr_format=3, attributes=_facts(run))
    kinds = _kinds(run, trajectories)
    for shape, members in kinds.items():
        group = root if len(kinds) == 1 else root.create_group("particles-" + "x".join(map(str, shape)))
        _write_group(run, group, np.array(members), shape)


def _write_group(run: Run, group: Any, members: np.ndarray, shape: tuple[int, ...]) -> None:
    total, dtype = run.manifest.num_frames, run.manifest.dtype
    for name, tail in {"q": shape, "p": shape, "energy": ()}.items():
        blocks = (min(_ZARR_ROWS, len(members)), min(_ZARR_FRAMES, total), *tail)
        group.create_array(
            name, shape=(len(members), total, *tail), chunks=blocks, dtype=dtype, fill_value=np.nan
        )
    times, _ = times_and_unit(run, np.arange(total) * (run.manifest.save_every * run.manifest.dt))
    for name, values in {"times": times, "trajectory": members, "masses": _masses(run, members)}.items():
        group.create_array(name, data=values)
    for rows, places, numbers, arrays in _segments(run, members):
        for name, values in arrays.items():
            group[name].set_orthogonal_selection((places, slice(numbers.start, numbers.stop)), values[rows])


def _segments(
    run: Run, members: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, range, dict[str, np.ndarray]]]:
    """For every segment with some of the members: rows, places among the members, numbers of frames, arrays."""
    place = {int(number): k for k, number in enumerate(members)}
    for chunk, number in zip(*np.nonzero(_without_gaps(run)), strict=True):
        here = run.members(int(chunk))
        rows = np.flatnonzero(np.isin(here, members))
        if len(rows):
            found = run.store.read(int(chunk), int(number))
            places = np.array([place[int(k)] for k in here[rows]])
            yield (
                rows,
                places,
                run.manifest.frames_of(int(number)),
                {name: found.array(name) for name in ("q", "p", "energy")},
            )


def _masses(run: Run, members: np.ndarray) -> np.ndarray:
    """Of systems of one size, (n, N)."""
    found: dict[int, np.ndarray] = {}
    for chunk in range(len(run.manifest.chunks)):
        here = run.members(chunk)
        if np.isin(here, members).any():
            found |= dict(zip(here.tolist(), run.start(chunk).particles.masses.numpy(), strict=True))
    return np.stack([found[int(number)] for number in members])


def to_parquet(run: Run, path: Path, trajectories: Sequence[int]) -> None:
    """A folder of parquet files, one for every chunk, a row for every trajectory and frame, with its masses."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir(parents=True)
    wanted = np.array(trajectories)
    for chunk in np.flatnonzero(_without_gaps(run).any(1)):
        rows = np.flatnonzero(np.isin(run.members(int(chunk)), wanted))
        writer, masses = None, run.start(int(chunk)).particles.masses.numpy()[rows]
        for number in np.flatnonzero(_without_gaps(run)[chunk]) if len(rows) else ():
            told = {"units": json.dumps(units_of(run))} if units_of(run) else {}
            table = pa.table(_columns(run, int(chunk), int(number), rows, masses), metadata=told)
            if writer is None:
                file = path / f"chunk-{chunk:06d}.parquet"
                floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
                table_options = {"use_byte_stream_split": floats, "use_dictionary": False}
                writer = pq.ParquetWriter(file, table.schema, compression="zstd", **table_options)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _columns(
    run: Run, chunk: int, number: int, rows: np.ndarray, masses: np.ndarray
) -> dict[str, np.ndarray]:
    """Flat columns q_0 … and p_0 …, so that every reader of tables understands them."""
    found, frames = run.store.read(chunk, number), run.manifest.frames_of(number)
    count = len(rows) * len(frames)
    columns = {
        "trajectory": np.repeat(run.members(chunk)[rows], len(frames)),
        "frame": np.tile(np.arange(frames.start, frames.stop), len(rows)),
        "energy": found.array("energy")[rows].reshape(count),
    }
    columns["time"], _ = times_and_unit(run, columns["frame"] * (run.manifest.save_every * run.manifest.dt))
    columns |= {f"mass_{k}": np.repeat(each, len(frames)) for k, each in enumerate(masses.T)}
    for name in ("q", "p"):
        flat = found.array(name)[rows].reshape(count, -1)
        columns |= {f"{name}_{k}": np.ascontiguousarray(flat[:, k]) for k in range(flat.shape[1])}
    return columns


def _without_gaps(run: Run) -> np.ndarray:
    """The segments that are there, and everything before them; shape (C, K)."""
    present: np.ndarray = np.logical_and.accumulate(run.present(), axis=1)
    return present


def _kinds(run: Run, trajectories: Sequence[int]) -> dict[tuple[int, ...], list[int]]:
    """The trajectories by the shape (N, d) of their states."""
    wanted, kinds = set(trajectories), dict[tuple[int, ...], list[int]]()
    for chunk in range(len(run.manifest.chunks)):
        chosen = [int(number) for number in run.members(chunk) if int(number) in wanted]
        if chosen:
            kinds.setdefault(tuple(run.start(chunk).q.shape[1:]), []).extend(chosen)
    return {shape: sorted(members) for shape, members in kinds.items()}


def _facts(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "manifest": manifest.digest,
        "method": manifest.method,
        "dt": manifest.dt,
        "save_every": manifest.save_every,
        "steps": manifest.steps,
        **({"units": units_of(run)} if units_of(run) else {}),
    }
