"""``lie-sim simulate`` and ``resume``: thousands of trajectories in a store that survives everything, here or on Ray.

Steps are in the unit of time of the system; for atoms in femtoseconds, temperatures in kelvin.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import ase.io
import numpy as np
import torch
import tyro
from ase import Atoms, units
from ase.calculators.calculator import InputError

from lie_sim.cli.errors import StoppedError, UsageError, suggestion
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import is_run, model_folder, show
from lie_sim.data.structure_files import read_structures, to_atoms
from lie_sim.distributed import Run, cluster
from lie_sim.distributed import simulate as begin
from lie_sim.distributed.atoms import thermal_momenta
from lie_sim.distributed.cluster import check_place
from lie_sim.distributed.models import Moving, as_moving, dtype_of, moves_atoms, usual_method
from lie_sim.distributed.object_store import open_store
from lie_sim.distributed.run_intervals import intervals_of_ends
from lie_sim.distributed.run_units import times_and_unit
from lie_sim.experiments import open_run
from lie_sim.integrators import Method, get_method, is_method, methods
from lie_sim.integrators.stepper import check_step_counts
from lie_sim.shipped import shipped_models
from lie_sim.systems import System, build_system, system_names

_INDEX = re.compile(r"-?\d+|(-?\d*:){1,2}-?\d*")
"""Of frames, as ASE writes it behind the name of a file."""


@dataclass(frozen=True)
class SimulateOptions:
    """Simulate many systems for a long time; the same command, or lie-sim resume, goes on after anything.

    Args:
        model: run directory, folder of a model, the name of an exact system or of a model that comes with the package.
        steps: number of steps, a multiple of --save-every.
        out: folder of the run, or its URL on object storage.
        system: draw initial states from this system; by default that of the run.
        structures: file of molecules or crystals to start from, for a potential of atoms (any format of ASE; the last
            frame of a trajectory is FILE@-1).
        num_systems: how many initial states to draw, or structures to take (those of the file in turn).
        seed: of initial states, momenta and noise.
        step_size: length of a step; by default 0.01, for atoms 0.5 fs.
        method: integrator; leapfrog, pefrl, … at constant energy, langevin_middle, csvr, … at constant temperature. By
            default leapfrog, which is velocity Verlet, for atoms, and pefrl for others.
        temperature: of initial momenta of atoms and of a thermostat: K for atoms, otherwise an energy. At constant
            energy about half of it is left where the run begins at a minimum.
        friction: of a Langevin thermostat, per unit of time (fs for atoms).
        save_every: keep every so many-th state.
        chunk: systems that are advanced together.
        segment: steps of a segment, or about how long one takes (30s, 5min).
        drift_bound: end a trajectory whose energy drifts by so many mean kinetic energies.
        device: cpu or cuda, here and on the workers.
        address: where to compute: here if not given; local, auto, or the address of a Ray cluster.
        workers: segments at a time, on a cluster.
        progress: show a progress bar.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL_OR_RUN_OR_SYSTEM")]
    steps: int = 1000
    out: Annotated[str, tyro.conf.arg(metavar="DIR_OR_URL")] = "runs/simulate"
    system: Annotated[str | None, tyro.conf.arg(metavar="{" + ",".join(system_names()) + "}")] = None
    structures: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    num_systems: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    seed: int = 0
    step_size: Annotated[float | None, tyro.conf.arg(metavar="H")] = None
    method: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    temperature: Annotated[float | None, tyro.conf.arg(metavar="T")] = None
    friction: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    save_every: int = 1
    chunk: int = 1024
    segment: str = "30s"
    drift_bound: Annotated[float | None, tyro.conf.arg(metavar="BOUND")] = None
    device: str = "cpu"
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    progress: bool = True


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that lie-sim simulate or lie_sim.distributed.simulate began.

    Args:
        run: folder of the run, or its URL on object storage.
        address: where to compute: here if not given; local, auto, or the address of a Ray cluster.
        workers: segments at a time, on a cluster.
        progress: show a progress bar.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR_OR_URL")]
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    progress: bool = True


def simulate(argv: Sequence[str]) -> None:
    """Begin a run, or go on with it."""
    options = parse(SimulateOptions, argv, prog="lie-sim simulate")
    if options.num_systems == 0:
        raise UsageError("--num-systems must be at least 1, got 0")
    if options.temperature is not None and options.temperature < 0:
        raise UsageError(f"--temperature must not be negative, got {options.temperature:g}")
    check_step_counts(options.steps, options.save_every, names=("--steps", "--save-every"))
    if not open_store(options.out).exists():  # a run that is complete needs no cluster
        check_place(options.address, options.workers)
    moving, default = _moving(options.model)
    atoms = moves_atoms(moving)
    ensemble = _structures(options) if atoms else _states(options, default, moving)
    try:
        run = begin(
            moving,
            ensemble,
            steps=options.steps,
            dt=_step(options, atoms),
            store=options.out,
            method=_method(options, options.method or usual_method(moving), atoms),
            save_every=options.save_every,
            chunk=options.chunk,
            segment=int(options.segment) if options.segment.isdigit() else options.segment,
            drift_bound=options.drift_bound,
            device=options.device,
            threads=torch.get_num_threads(),
            wait=False,
        )
    except InputError as error:
        raise UsageError(str(error)) from error
    _finish(run, options, model_folder(Path(options.model)) if atoms else None)


def resume(argv: Sequence[str]) -> None:
    """Go on with a run."""
    options = parse(ResumeOptions, argv, prog="lie-sim resume")
    _finish(Run(options.run), options)


def describe(run: Run) -> dict[str, Any]:
    """How far a run is, for people."""
    status, manifest = run.status(), run.manifest
    step, unit = times_and_unit(run, np.array(manifest.dt))
    done = status.segments / status.total_segments
    return {
        "run": run.store.location,
        "trajectories": status.trajectories,
        "steps": f"{manifest.steps:,} of {step:g}{unit and ' ' + unit} with {manifest.method}",
        "segments": f"{status.segments:,} of {status.total_segments:,} ({done:.1%})",
        "frames": status.frames,
        "largest drift / mean kinetic energy": f"{status.drift:.1e}",
        "diverged": _some(status.diverged),
        "ended by drift": _some(status.drifted),
    }


def _some(numbers: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
    return f"{len(numbers)} ({listed})" if numbers else "0"


def _finish(run: Run, options: SimulateOptions | ResumeOptions, potential: Path | None = None) -> None:
    begun = time.monotonic()
    if run.status().complete:  # no cluster is needed
        show([*describe(run).items(), *_intervals(run, potential)])
        return
    if options.address == "local" and options.progress:
        print("starting Ray on this machine …", file=sys.stderr)
    try:
        with cluster(options.address, workers=options.workers):
            run.finish(progress=options.progress)
    except KeyboardInterrupt:
        where = ["--address", options.address] if options.address else []
        where += ["--workers", str(options.workers)] if options.workers else []
        command = shlex.join(["lie-sim", "resume", str(run.store.location), *where])
        raise StoppedError(
            f"stopped; what was done is in {run.store.location}. To go on: {command}"
        ) from None
    seconds = round(time.monotonic() - begun, 1)
    show([*describe(run).items(), *_intervals(run, potential), ("seconds", seconds)])


def _intervals(run: Run, potential: Path | None) -> list[tuple[str, str]]:
    """Of a calibrated potential of atoms."""
    found = None if potential is None else intervals_of_ends(run, potential)
    return [] if found is None else [("interval of energies", str(found))]


def _moving(name: str) -> tuple[Moving, str | None]:
    """The model, and the system that its initial states are of."""
    if name in system_names():
        return build_system(name), name
    path = Path(name)
    if not path.exists() and name not in shipped_models():
        hint = suggestion(name, [*system_names(), *shipped_models()])
        raise UsageError(
            f"{name} is no folder, no system ({', '.join(system_names())}) and no model that comes with the package "
            f"({', '.join(shipped_models())}){hint}"
        )
    run = open_run(path) if is_run(path) else None
    try:
        moving = as_moving(model_folder(path))
    except TypeError as error:
        raise UsageError(str(error)) from error
    return moving, run.name if run and run.name in system_names() else None


def _states(options: SimulateOptions, default: str | None, moving: Moving) -> Any:
    if options.structures is not None:
        raise UsageError("--structures needs a potential of atoms; this model takes --system")
    name = options.system or default
    if name not in system_names():
        raise UsageError(f"where to start? Give --system with one of {', '.join(system_names())}")
    if isinstance(moving, System) and name != moving.name:
        raise UsageError(f"the model is the system {moving.name} itself: leave out --system {name}")
    system = moving if isinstance(moving, System) else build_system(name)
    generator = torch.Generator().manual_seed(options.seed)
    state, particles = system.sample(options.num_systems or 10, generator=generator)
    dtype = dtype_of(moving) or state.q.dtype
    return state.to(dtype=dtype), particles.to(dtype=dtype)


def _structures(options: SimulateOptions) -> list[Atoms]:
    if options.structures is None or options.system is not None:
        raise UsageError("a potential of atoms starts from a file: give --structures FILE, and no --system")
    found = _read(options.structures)
    systems = [found[k % len(found)].copy() for k in range(options.num_systems or len(found))]
    rng = np.random.default_rng(options.seed)
    if options.temperature is not None:
        for atoms in systems:
            atoms.set_momenta(thermal_momenta(atoms.get_masses(), options.temperature * units.kB, rng))
    return systems


def _read(path: Path) -> list[Atoms]:
    """Structures of a file, or those that ASE's ``FILE@INDEX`` means, such as ``md.traj@-1``."""
    index = ":"
    if not path.is_file() and "@" in path.name:
        name, _, index = path.name.rpartition("@")
        path = path.with_name(name)
        if not _INDEX.fullmatch(index):
            raise UsageError(
                f"{path}@{index}: expected a number or a slice after @, such as -1 or 10:, got {index!r}"
            )
    if not path.is_file():
        raise UsageError(f"no file {path}")
    if path.suffix in (".npz", ".safetensors"):
        return to_atoms(read_structures(path))
    try:
        found = list(ase.io.iread(path, index=index))
    except (ValueError, KeyError, IndexError, ase.io.formats.UnknownFileTypeError) as error:
        raise UsageError(f"{path} cannot be read by ASE: {error}") from error
    if not found:
        raise UsageError(f"{path} has no structure")
    return found


def _step(options: SimulateOptions, atoms: bool) -> float:
    if options.step_size is not None and options.step_size <= 0:
        raise UsageError(f"--step-size must be positive, got {options.step_size}")
    if atoms:
        return float((options.step_size or 0.5) * units.fs)
    return options.step_size or 0.01


def _method(options: SimulateOptions, name: str, atoms: bool) -> Method:
    if not is_method(name):
        names = [method.name for method in methods()]
        raise UsageError(f"unknown method {name!r}{suggestion(name, names)}")
    method, chosen = get_method(name), dict[str, Any]()
    known = method.options()
    if options.friction is not None:
        chosen["friction"] = options.friction / units.fs if atoms else options.friction
    if options.temperature is not None and "temperature" in known:
        chosen["temperature"] = options.temperature * units.kB if atoms else options.temperature
    elif "temperature" in known:
        raise UsageError(f"{name} keeps a temperature: give --temperature")
    elif options.temperature is not None and not atoms:
        raise UsageError(
            f"{name} keeps the energy, so it has no use for --temperature: leave it out, or give --method "
            "langevin_middle"
        )
    if "seed" in known:
        chosen["seed"] = options.seed
    if "on_failure" in known:
        chosen["on_failure"] = "nan"
    return method.with_options(**chosen)
