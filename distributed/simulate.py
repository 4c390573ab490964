"""Thousands of long trajectories that survive anything: begin a run, or go on with it, by the same call.

    chunks of systems × segments of steps;      segment k of chunk c = f(manifest, c, state after segment k − 1)

Every segment is one immutable file, committed once; kill any process at any time, call again, and the result is that of
an undisturbed run, to the bit.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lie_sim.distributed.ensemble import Ensemble, chunks, membership, save_membership
from lie_sim.distributed.label_store import NAME as LABELS
from lie_sim.distributed.manifest import (
    ChunkEntry,
    Manifest,
    difference,
    machine,
    missing_device,
    plain_options,
    versions,
)
from lie_sim.distributed.models import Moving, as_moving, description, store_model, usual_method
from lie_sim.distributed.object_store import open_store
from lie_sim.distributed.run import MEMBERSHIP, Run
from lie_sim.distributed.segment import ChunkSegments
from lie_sim.distributed.start import ChunkStart
from lie_sim.distributed.store import SegmentStore
from lie_sim.errors import ConfigError
from lie_sim.integrators import Method, get_method
from lie_sim.integrators.stepper import check_step_counts
from lie_sim.rollout import Rollout
from lie_sim.rollout.manifest import NOT_REPRODUCIBLE, motion

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h)")
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_PROBE = 0.5
"""Seconds of computing from which the length of a segment is estimated."""


def simulate(
    model: Any,
    ensemble: Ensemble,
    *,
    steps: int,
    dt: float,
    store: str | Path,
    method: str | Method | None = None,
    save_every: int = 1,
    chunk: int = 1024,
    segment: int | str = "30s",
    seed: int | None = None,
    divergence_bound: float = 1e6,
    drift_bound: float | None = None,
    device: str = "cpu",
    threads: int = 1,
    retries: int = 3,
    progress: bool = False,
    wait: bool = True,
) -> Run:
    """Simulate every system of an ensemble; the same call resumes.

    Inside ``with cluster(...)`` the segments are computed there, otherwise here; the results are the same.

    Args:
        model: what moves them: a saved model or its folder, a Hamiltonian, an exact system, a potential of atoms or
            its :class:`~lie_sim.calculators.LieTransformerCalculator`.
        ensemble: ``(PhaseState, Particles)``, a list of ``ase.Atoms`` with momenta, or a set of molecules.
        steps: how many, a multiple of ``save_every``.
        dt: length of a step; for atoms in ASE's unit, such as ``0.5 * ase.units.fs``.
        store: folder of the run, or a URL on object storage, such as ``"s3://bucket/run"``; made, or gone on with.
        method: integrator of constant step, by name or with its options; None takes "leapfrog" for atoms, which is
            velocity Verlet, and "pefrl" for others.
        save_every: steps from one frame to the next.
        chunk: systems that are advanced together, at most.
        segment: steps of a segment, a multiple of ``save_every``, or about how long one takes, such as ``"30s"`` or
            ``"5min"``, measured here when the run begins.
        seed: of the noise of a thermostat; None takes that of ``method``.
        divergence_bound: largest absolute coordinate or momentum that is taken seriously.
        drift_bound: a trajectory ends when |H − H₀| exceeds so many mean kinetic energies; None for never.
        device: where to compute, ``"cpu"`` or ``"cuda"``.
        threads: of torch; results of other numbers differ in the last bits.
        retries: how often in a row a segment may fail for reasons that may pass, such as a full disk.
        progress: show a bar on standard error.
        wait: compute now; otherwise :meth:`Run.stream` or :meth:`Run.finish` do.

    Returns:
        The run.

    Raises:
        TypeError: the model has no energy, workers could not make it again, or the ensemble is none.
        ValueError: a number is impossible, or something is given that would be ignored.
        ConfigError: the folder holds another run (the message says what differs), or the device is not here.
        FailedChunksError: some chunks could not be computed; the others are there.

    Example:
        >>> import tempfile
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> ensemble = system.sample(5, generator=torch.Generator().manual_seed(0))
        >>> options = {"steps": 100, "dt": 0.01, "save_every": 10, "chunk": 2, "segment": 40}
        >>> run = simulate(system, ensemble, store=tempfile.mkdtemp(), **options)
        >>> run.trajectory(4).q.shape, run.status().segments
        ((11, 3, 2), 9)
    """
    check_step_counts(steps, save_every, names=("steps", "save_every"))
    if reason := missing_device(device):
        raise ConfigError(
            f"this process has no device {device!r} ({reason}): a run begins with its first force, so begin it on a "
            "machine that has one"
        )
    moving = as_moving(model)
    method = usual_method(moving) if method is None else method
    rollout = Rollout(moving, method, dt, divergence_bound=divergence_bound, drift_bound=drift_bound)
    chosen = _with_seed(rollout.chosen_method(), seed)
    starts = list(chunks(ensemble, chunk, moving))
    manifest = Manifest(
        model=description(moving),
        method=chosen.name,
        method_options=dict(plain_options(chosen)),
        dt=float(dt),
        steps=steps,
        save_every=save_every,
        segment_steps=_fixed(segment, save_every) or steps or 1,
        chunks=tuple(ChunkEntry(len(start.q), start.digest()) for start in starts),
        membership="",
        dtype=str(starts[0].q.dtype).removeprefix("torch."),
        device=device,
        threads=threads,
        divergence_bound=float(divergence_bound),
        drift_bound=drift_bound,
        machine=machine(device),
        versions=versions(),
    )
    run = _open(open_store(store), manifest, moving, starts, segment)
    run.retries = retries
    if wait:
        run.finish(progress=progress)
    return run


def _open(
    store: SegmentStore, manifest: Manifest, moving: Moving, starts: Sequence[ChunkStart], segment: int | str
) -> Run:
    """The run of this manifest, begun if there is none."""
    first = ChunkSegments(manifest, moving, starts[0].to(manifest.device))
    manifest = replace(manifest, motion=motion([first.begin()]))
    if store.exists():
        found = store.manifest()
    elif isinstance(store.location, Path) and (store.location / LABELS).exists():
        raise ConfigError(f"{store.location} holds labels, not a run: use another folder")
    else:
        if isinstance(segment, str):
            manifest = replace(manifest, segment_steps=_measured(first, _seconds(segment)))
        found = _begin(store, manifest, moving, starts)
    if isinstance(segment, str):
        manifest = replace(manifest, segment_steps=found.segment_steps)
    differs = difference(found, replace(manifest, membership=found.membership))
    if differs:
        raise ConfigError(f"{store.location} holds another run: {differs}; use another folder")
    if found.motion != manifest.motion and NOT_REPRODUCIBLE not in (found.motion, manifest.motion):
        warnings.warn(
            f"force and energy at the start are not, to the bit, what they were when {store.location} was begun (on "
            f"{found.machine} with {found.versions}; now {manifest.machine}, {manifest.versions}): the run goes on, "
            "but not as it would have there",
            stacklevel=3,
        )
    return Run(store.location)


def _begin(store: SegmentStore, manifest: Manifest, moving: Moving, starts: Sequence[ChunkStart]) -> Manifest:
    """Write everything that a worker needs, the manifest last."""
    store.make()
    store_model(moving, store.folder)
    for number, start in enumerate(starts):
        start.save(store.start_path(number))
    table = membership([start.trajectories for start in starts])
    digest = save_membership(store.folder / MEMBERSHIP, table)
    return store.begin(replace(manifest, membership=digest))


def _with_seed(method: Method, seed: int | None) -> Method:
    if seed is None:
        return method
    if not method.stochastic:
        raise ValueError(f"{method.name} draws no noise, so it needs no seed: leave it out")
    return get_method(method, seed=seed)


def _fixed(segment: int | str, save_every: int) -> int:
    """Steps of a segment, 0 if they are to be measured."""
    if isinstance(segment, str):
        _seconds(segment)
        return 0
    if segment < 1 or segment % save_every:
        raise ValueError(
            f"segment must be a multiple of save_every={save_every} steps, or a time such as '30s'; got {segment}"
        )
    return segment


def _seconds(duration: str) -> float:
    found = _DURATION.fullmatch(duration)
    if not found or not float(found[1]) > 0:
        raise ValueError(
            f"segment must be a number of steps, or a time such as '30s' or '5min'; got {duration!r}"
        )
    return float(found[1]) * _UNITS[found[2]]


def _measured(segments: ChunkSegments, seconds: float) -> int:
    """Steps of a segment that takes about so long here."""
    manifest, chunk = segments.manifest, segments.begin()
    done, begun = 0, time.perf_counter()
    with torch.no_grad():
        while (spent := time.perf_counter() - begun) < _PROBE and done < manifest.steps:
            chunk.advance(manifest.dt, manifest.save_every)
            chunk.frame()
            done += manifest.save_every
    frames = round(seconds * done / max(spent, 1e-9) / manifest.save_every)
    return min(max(1, frames) * manifest.save_every, max(manifest.steps, 1))
