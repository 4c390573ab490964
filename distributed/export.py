"""A run in the formats of others: whole, or as far as it is.

    zarr      arrays q, p (n, T, N, d), energy (n, T), written segment by segment      zarr v3
    parquet   a row for every trajectory and frame, a file for every chunk             zstd, byte_stream_split
    h5md      positions and velocities of every trajectory                             H5MD 1.1
    extxyz    a file for every trajectory, with energies and momenta                   ASE
    traj      the same as ASE's own trajectory

Of the last two, a target with their ending is the file of one trajectory.

The libraries are optional and imported when they are asked for.

Shape letters: n trajectories, T frames, N particles, d space dimension.
Reference: de Buyl, Colberg, Höfling, Comp. Phys. Comm. 185 (2014) 1546 (H5MD).
"""

from __future__ import annotations

import importlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lie_sim.distributed.export_atoms import to_ase, to_ase_file, to_h5md
from lie_sim.distributed.export_tables import to_parquet, to_zarr
from lie_sim.distributed.run import Run
from lie_sim.errors import MissingPackageError

Write = Callable[[Run, Path, Sequence[int]], None]
FORMATS: dict[str, tuple[Write, tuple[str, ...]]] = {
    "zarr": (to_zarr, ("zarr",)),
    "parquet": (to_parquet, ("pyarrow",)),
    "h5md": (to_h5md, ("h5py",)),
    "extxyz": (lambda run, path, chosen: to_ase(run, path, chosen, "extxyz"), ()),
    "traj": (lambda run, path, chosen: to_ase(run, path, chosen, "traj"), ()),
}
"""Name to what writes it, and the packages that needs."""


ONE_TRAJECTORY = {".extxyz": "extxyz", ".xyz": "extxyz", ".traj": "traj"}
ENDINGS = {".zarr": "zarr", ".h5": "h5md", ".hdf5": "h5md", ".h5md": "h5md", **ONE_TRAJECTORY}
"""What the name of a target says about its format: of one trajectory, or of all; parquet is a folder of files."""


def export(
    run: Run,
    target: str | Path,
    *,
    format: str | None = None,
    trajectories: Sequence[int] | None = None,
) -> Path:
    """Write a run, or some of its trajectories, in another format.

    Args:
        run: the run; frames that are there without a gap are written.
        target: file (h5md; one trajectory as ``.extxyz`` or ``.traj``) or folder (all others), not yet there.
        format: one of :data:`FORMATS`; None for what the ending of ``target`` says: ``.zarr``, ``.h5``, ``.extxyz`` or
            ``.traj``.
        trajectories: their numbers; None means all.

    Returns:
        ``target``.

    Raises:
        ValueError: there is no such format, or none is given and the ending says none, or another one; or a file of
            one trajectory cannot hold those asked for.
        FileExistsError: the target is there.
        MissingPackageError: the format needs a package that is not installed.
        IndexError: there is no such trajectory.

    Example:
        >>> import tempfile, torch
        >>> from lie_sim.distributed import simulate
        >>> from lie_sim.systems import Springs
        >>> springs, folder = Springs(num_particles=2), Path(tempfile.mkdtemp())
        >>> start = springs.sample(2, generator=torch.Generator().manual_seed(0))
        >>> run = simulate(springs, start, steps=4, dt=0.01, segment=2, store=folder / "run")
        >>> sorted(file.name for file in export(run, folder / "xyz", format="extxyz").iterdir())
        ['000000.extxyz', '000001.extxyz']
    """
    format = _chosen(format, Path(target))
    write, packages = FORMATS[format]
    for name in packages:
        _require(name, format)
    path = Path(target)
    if path.exists():
        raise FileExistsError(f"{path} is there already: remove it, or give another target")
    total = run.manifest.num_trajectories
    chosen = range(total) if trajectories is None else [int(number) for number in trajectories]
    for number in chosen:
        if not 0 <= number < total:
            raise IndexError(f"the run has the trajectories 0 to {total - 1}, not {number}")
    one = path.suffix.lower() in ONE_TRAJECTORY
    if one and len(chosen) != 1:
        raise ValueError(
            f"{path} is the file of one trajectory, not of {len(chosen)}: choose one, or give a folder and the format "
            f"{format}, for a file each"
        )
    with _whole(path) as temporary:
        if one:
            to_ase_file(run, temporary, chosen[0], format)
        else:
            write(run, temporary, chosen)
    return path


def _chosen(format: str | None, target: Path) -> str:
    """The format that is asked for, by its name or by the ending of the target."""
    ending = ENDINGS.get(target.suffix.lower())
    if format is None and ending is None:
        raise ValueError(
            f"the ending of {target} does not say in which format to write: {', '.join(ENDINGS)} do; otherwise give "
            f"the format, one of {', '.join(FORMATS)}"
        )
    format = format or str(ending)
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    if ending not in (None, format):
        raise ValueError(f"the ending of {target} says {ending}, the format is {format}: change one of them")
    return format


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name beside it, which becomes the path when all is written; nothing is left of what was not finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        temporary.rename(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _require(package: str, format: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"the format {format} needs the package {package}: pip install 'lie_sim[export]', or pip install {package}"
        ) from error
