"""``lie-sim rollout``: long trajectories from a trained model, as a file of trajectories or a directory of blocks.

energy change of a system = max_t |H(t) − H(0)| / mean kinetic energy,     H the model's own energy
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from lie_sim.checkpoint import load_model
from lie_sim.cli.errors import StoppedError, UsageError, suggestion
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import is_run, model_folder, show
from lie_sim.data import Trajectories
from lie_sim.errors import ConfigError
from lie_sim.experiments import Experiment, MoleculesExperiment, SolarExperiment, open_run
from lie_sim.experiments.dynamics import BATCH
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import is_method, splitting_methods
from lie_sim.integrators.stepper import check_step_counts
from lie_sim.models import EnergyModel
from lie_sim.rollout import (
    Frames,
    Rollout,
    RolloutResult,
    StoredRollout,
    energy_change,
    largest_energy_change,
)
from lie_sim.rollout import rollout as integrate
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import build_system, system_names

_METHODS = [method.name for method in splitting_methods()]
_START = "start.safetensors"
"""In the directory of a stored run: initial states and particles, as a file of trajectories with one time."""
_FRAMES_PER_BLOCK = 16


@dataclass(frozen=True)
class RolloutOptions:
    """Predict trajectories with a trained model, write them to a file and print how well energy is conserved.

    Args:
        model: run directory, or folder of a model.
        steps: number of steps, at least 1.
        system: draw initial states from this system; by default that of the run (a solar run starts where its
            training years end).
        initial: trajectories file whose first states to start from, in place of a system.
        num_systems: how many initial states to draw.
        seed: of the initial states.
        step_size: length of a step, positive, in the unit of time; by default that of the run's data, or of the file.
        method: integrator; by default that of the run, or pefrl.
        substeps: integrator steps per step.
        save_every: keep every so many-th state; divides the number of steps.
        out: trajectories file to write; by default rollout.safetensors in the run directory, or here.
        directory: store the run there block by block, not as one file: memory does not grow with its length, and
            the same command continues a run that was stopped or killed, also to more steps.
        overwrite: remove the run that is in the directory, and begin again.
        progress: show a progress bar.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL_OR_RUN")]
    steps: int = 1000
    system: Annotated[str | None, tyro.conf.arg(metavar="{" + ",".join(system_names()) + "}")] = None
    initial: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    num_systems: int = 10
    seed: int = 0
    step_size: Annotated[float | None, tyro.conf.arg(metavar="H")] = None
    method: Annotated[str | None, tyro.conf.arg(metavar="{" + ",".join(_METHODS) + "}")] = None
    substeps: int = 1
    save_every: int = 1
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    directory: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    overwrite: bool = False
    progress: bool = True


@dataclass(frozen=True)
class Start:
    """Where the trajectories begin, and the step and integrator to go on with."""

    state: PhaseState
    particles: Particles
    step_size: float
    method: str
    metadata: dict[str, Any]

    def to(self, parameter: Tensor) -> Start:
        """The same in the dtype of a parameter of the model."""
        state = PhaseState(q=self.state.q.to(parameter), p=self.state.p.to(parameter))
        return replace(self, state=state, particles=self.particles.to(dtype=parameter.dtype))


def rollout(argv: Sequence[str]) -> None:
    """Integrate, write the file, print a summary."""
    options = parse(RolloutOptions, argv, prog="lie-sim rollout")
    run = open_run(options.model) if is_run(options.model) else None
    hamiltonian = _hamiltonian(model_folder(options.model))
    out = options.out or (options.model if run else Path()) / "rollout.safetensors"
    _check(options, out)
    parameter = next(hamiltonian.parameters())
    start = _start(options, run).to(parameter)
    if options.directory is None:
        found = _to_file(hamiltonian, start, options, out)
    else:
        found = _to_directory(hamiltonian, start, options, options.directory, ["rollout", *argv])
    count, size, dim = start.state.q.shape
    print(f"{count} systems of {size} particles in {dim} dimensions")
    print(f"{options.steps:,} steps of {start.step_size:g} with {start.method}")
    show(found.items(), indent="  ")


def _to_file(hamiltonian: Hamiltonian, start: Start, options: RolloutOptions, out: Path) -> dict[str, Any]:
    """Whole trajectories in one file."""
    path = integrate(
        hamiltonian,
        start.state,
        start.particles,
        step_size=start.step_size,
        num_steps=options.steps,
        method=start.method,
        save_every=options.save_every,
        substeps=options.substeps,
        batch_size=BATCH,
        progress=options.progress,
    )
    _refuse_nonsense(path, start.step_size)
    metadata = {**start.metadata, **_facts(start, options)}
    Trajectories(path.q, path.p, path.times, start.particles, metadata).save(out)
    return {**summary(path, start.particles), "written": out}


def _to_directory(
    hamiltonian: Hamiltonian, start: Start, options: RolloutOptions, folder: Path, words: Sequence[str]
) -> dict[str, Any]:
    """Blocks of frames in a directory; what is there is continued."""
    if options.overwrite:
        StoredRollout.remove(folder)
        (folder / _START).unlink(missing_ok=True)
    times = torch.zeros(1, dtype=torch.float64)
    q, p, metadata = (
        start.state.q[:, None],
        start.state.p[:, None],
        {**start.metadata, **_facts(start, options)},
    )

    def note_start(_: Frames) -> None:
        if not (folder / _START).is_file():  # only now is it known that the directory is of this run
            Trajectories(q, p, times, start.particles, metadata).save(folder / _START)

    runner = Rollout(
        hamiltonian,
        start.method,
        start.step_size,
        substeps=options.substeps,
        batch_size=BATCH,
        frames_per_block=_FRAMES_PER_BLOCK,
    )
    try:
        end = runner.run(
            start.state,
            options.steps,
            particles=start.particles,
            save_every=options.save_every,
            on_frames=note_start,
            directory=folder,
            progress=options.progress,
        )
    except KeyboardInterrupt:
        command = shlex.join(["lie-sim", *(word for word in words if word != "--overwrite")])
        raise StoppedError(f"stopped; what was done is in {folder}. To go on: {command}") from None
    except ConfigError as error:
        raise ConfigError(f"{error}; --overwrite begins again here") from error
    change = largest_energy_change(StoredRollout(folder).blocks(), start.particles)
    return {**_described(change[~end.diverged], end.diverged), "stored": folder}


def _facts(start: Start, options: RolloutOptions) -> dict[str, Any]:
    return {"model": str(options.model), "method": start.method, "substeps": options.substeps}


def _refuse_nonsense(path: RolloutResult, step_size: float) -> None:
    """A file in which nothing but the initial states is finite helps nobody."""
    if path.q.shape[1] > 1 and len(path.q) and bool(path.q[:, 1].isnan().flatten(1).any(1).all()):
        raise UsageError(
            f"all {len(path.q)} systems diverged before the first saved time, so nothing was written: "
            f"--step-size {step_size:g} is too long, use a shorter one (or more --substeps)"
        )


def summary(path: RolloutResult, particles: Particles) -> dict[str, str]:
    """Energy change of the systems that stayed finite and moved, and how many systems did not stay finite.

    Example:
        >>> q, p = torch.zeros(2, 3, 1, 2), torch.ones(2, 3, 1, 2)  # a kinetic energy of 1
        >>> energy = torch.tensor([[2.0, 2.1, 2.0], [1.0, torch.nan, torch.nan]])
        >>> path = RolloutResult(torch.arange(3.0), q, p, energy, torch.tensor([False, True]))
        >>> list(summary(path, Particles(masses=torch.ones(2, 1))).values())
        ['median 1.0e-01, largest 1.0e-01', '1 of 2 (50.0%)']
    """
    return _described(energy_change(path, particles)[~path.diverged].abs().amax(1), path.diverged)


def _described(change: Tensor, diverged: Tensor) -> dict[str, str]:
    change = change[change.isfinite()]
    known = (
        f"median {float(change.median()):.1e}, largest {float(change.max()):.1e}"
        if len(change)
        else "unknown"
    )
    count, total = int(diverged.sum()), len(diverged)
    return {
        "energy change / mean kinetic energy": known,
        "diverged": f"{count} of {total} ({count / total:.1%})",
    }


def _hamiltonian(folder: Path) -> Hamiltonian:
    model = load_model(folder)
    if isinstance(model, Hamiltonian):
        return model
    if isinstance(model, EnergyModel):
        return Hamiltonian(model)
    raise UsageError(
        f"{folder} holds a {type(model).__name__}, which has no energy: it makes no trajectories"
    )


def _check(options: RolloutOptions, out: Path) -> None:
    """What can be found wrong before a long computation."""
    if options.method is not None and options.method not in _METHODS:
        if is_method(options.method):
            raise UsageError(
                f"lie-sim rollout has splitting methods only; {options.method!r} works in Python, in lie_sim.rollout"
            )
        hint = suggestion(options.method, _METHODS)
        raise UsageError(f"unknown method {options.method!r}; there are {', '.join(_METHODS)}{hint}")
    if options.steps < 1:
        raise UsageError(f"--steps must be at least 1, got {options.steps}")
    check_step_counts(options.steps, options.save_every, names=("--steps", "--save-every"))
    if options.step_size is not None and options.step_size <= 0:
        raise UsageError(f"--step-size must be positive, got {options.step_size}")
    if options.initial is not None and options.system is not None:
        raise UsageError("give --initial or --system, not both")
    if options.overwrite and options.directory is None:
        raise UsageError("--overwrite goes with --directory; a file is replaced anyway")
    if options.directory is not None:
        _check_directory(options.directory, options)
        return
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory: give the name of a file")
    if out.suffix != ".safetensors" or (out.parent / "model.json").is_file():
        raise UsageError(f"--out {out} must be a .safetensors file, outside the folder of a model")
    out.parent.mkdir(parents=True, exist_ok=True)


def _check_directory(folder: Path, options: RolloutOptions) -> None:
    if options.out is not None:
        raise UsageError("give --out or --directory, not both")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--directory {folder} is a file: give the name of a directory")
    if is_run(folder) or (folder / "model.json").is_file():
        raise UsageError(f"--directory {folder} holds a training run or a model: give a directory of its own")


def _start(options: RolloutOptions, run: Experiment[Any] | None) -> Start:
    if options.initial is not None:
        return _from_file(options, Trajectories.load(options.initial), run)
    if options.system is None and isinstance(run, SolarExperiment):
        return _from_trajectories(options, run.future, method=run.config.method)
    if options.system is None and isinstance(run, MoleculesExperiment):
        raise UsageError(
            f"a potential of atoms starts from structures: lie-sim simulate {options.model} --structures FILE"
        )
    name = options.system or (run.name if run else "")
    if name not in system_names():
        asked = (
            f"unknown system {name!r}" if options.system else f"{options.model} does not say where to start"
        )
        known = ", ".join(system_names())
        hint = suggestion(name, system_names())
        raise UsageError(f"{asked}: give --initial FILE, or --system with one of {known}{hint}")
    system = build_system(name)
    state, particles = system.sample(
        options.num_systems, generator=torch.Generator().manual_seed(options.seed)
    )
    times = system.default_times()
    step_size = float(times[1] - times[0]) if options.step_size is None else options.step_size
    metadata = {"system": name, "options": system.options(), "seed": options.seed}
    return Start(state, particles, step_size, options.method or "pefrl", metadata)


def _from_file(options: RolloutOptions, data: Trajectories, run: Experiment[Any] | None) -> Start:
    """The first states of a file, with the time step of the run's own data where it is known."""
    start = _from_trajectories(options, data)
    if options.step_size is not None or run is None or run.name not in system_names():
        return start
    times = build_system(run.name).default_times()
    own = float(times[1] - times[0])
    if not math.isclose(own, start.step_size, rel_tol=1e-6):
        print(
            f"step {own:g}, as in the run's data (the states of {options.initial} are {start.step_size:g} apart); "
            "--step-size sets another"
        )
    return replace(start, step_size=own)


def _from_trajectories(options: RolloutOptions, data: Trajectories, *, method: str = "pefrl") -> Start:
    """The first states of trajectories."""
    step_size = options.step_size
    if step_size is None:
        if data.num_times < 2:
            raise UsageError("the initial file has one time only and so no time step: give --step-size")
        step_size = data.dt
    return Start(data.state(0), data.particles, step_size, options.method or method, dict(data.metadata))
