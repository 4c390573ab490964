"""Run many systems for a long time: bounded memory, progress, resume, drift watch.

    frame k = Φ_h^{k·save_every·substeps} (q₀, p₀),      k = 0 … num_steps / save_every,   Φ_h one step of a method

Frames are handed over in blocks as they are made, so memory does not grow with the length of a run. In a directory,
every block is kept together with the state after it, and a run that was killed goes on from the last one to the same
bits (same shapes, device and number of threads).

Shape letters: B batch, T saved times, F frames of a block, N particles, d space dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lie_sim.driven import DrivenHamiltonian
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import Compiled, Method, get_method
from lie_sim.integrators.stepper import check_step_counts, refuse_adaptive
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout.binding import bound_systems
from lie_sim.rollout.chunk import Chunk
from lie_sim.rollout.directory import StoredRollout
from lie_sim.rollout.frames import Frames
from lie_sim.rollout.manifest import manifest
from lie_sim.rollout.one_run import OneRun, RolloutEnd
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenSystem, System


@dataclass(frozen=True)
class Rollout:
    """Runs a Hamiltonian or a ground-truth system, without gradients.

    Args:
        hamiltonian: a learned :class:`~lie_sim.hamiltonian.Hamiltonian`, or an exact
            :class:`~lie_sim.systems.System`.
        method: name of a method of :mod:`lie_sim.integrators`, or the method itself, options included. A system whose
            implicit step is not solved counts as diverged; of a method given as an object, only under its
            ``on_failure="nan"``.
        step_size: h in the unit of time; negative runs backwards.
        substeps: cut each step of length h into so many steps of the method.
        batch_size: advance so many systems at a time, to bound memory; None means all of them.
        frames_per_block: frames that are handed over, or stored, together.
        divergence_bound: largest absolute coordinate or momentum of a trajectory that is taken seriously.
        drift_bound: what to call too much drift: |H − H₀| over the mean kinetic energy so far, H with the energy in
            the heat bath of ``csvr`` or ``nose_hoover_chain``; None for no watch. Langevin dynamics has no such energy.
        on_drift: "warn" once, or "stop" after the block in which it happens; a run that was stopped is not continued
            under the same bound.
        compile: run blocks of steps as compiled code (:class:`~lie_sim.integrators.Compiled`).

    Example:
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(4, generator=torch.Generator().manual_seed(0))
        >>> seen = []
        >>> run = Rollout(system, "leapfrog", 0.01, frames_per_block=5)
        >>> end = run.run(
        ...     state, 100, particles=particles, save_every=10, on_frames=lambda f: seen.append(f.q.shape[1])
        ... )
        >>> seen, end.num_steps
        ([5, 5, 1], 100)
    """

    hamiltonian: Hamiltonian | System
    method: str | Method = "pefrl"
    step_size: float = 0.01
    substeps: int = 1
    batch_size: int | None = None
    frames_per_block: int = 64
    divergence_bound: float = 1e6
    drift_bound: float | None = None
    on_drift: Literal["warn", "stop"] = "warn"
    compile: bool = False

    def __post_init__(self) -> None:
        method = self._method()
        if self.drift_bound is not None and not method.conserves_energy:
            raise ValueError(
                f"drift_bound watches an energy that is conserved, and {method.name} keeps none: leave it out, or use "
                "csvr or nose_hoover_chain, whose heat bath is counted"
            )
        if self.drift_bound is not None and not self.drift_bound > 0:
            raise ValueError(f"drift_bound must be positive, got {self.drift_bound}")
        if not math.isfinite(self.step_size):
            raise ValueError(f"step_size must be finite, got {self.step_size}")
        if (
            self.substeps < 1
            or (self.batch_size is not None and self.batch_size < 1)
            or not self.divergence_bound > 0
        ):
            raise ValueError(
                "substeps and batch_size must be >= 1 and divergence_bound > 0; got "
                f"{self.substeps}, {self.batch_size} and {self.divergence_bound}"
            )
        if self.frames_per_block < 1 or self.on_drift not in ("warn", "stop"):
            raise ValueError(
                f'frames_per_block must be >= 1 and on_drift "warn" or "stop"; got {self.frames_per_block} '
                f"and {self.on_drift!r}"
            )

    def run(
        self,
        state: PhaseState,
        num_steps: int,
        *,
        particles: Particles | None = None,
        save_every: int = 1,
        on_frames: Callable[[Frames], None] | None = None,
        directory: str | Path | None = None,
        neighbours: NeighbourMatrix | None = None,
        trajectories: Tensor | None = None,
        progress: bool = False,
    ) -> RolloutEnd:
        """Advance every system by ``num_steps`` steps from its initial state.

        Args:
            state: initial positions and momenta, shape (B, N, d).
            num_steps: number of steps of length h, a multiple of ``save_every``.
            particles: what the particles are, shape (B, N, ·); None takes those bound to the Hamiltonian.
            save_every: keep every so many-th state as a frame.
            on_frames: called with each block of frames; of a run that is continued, with the new ones only. A block is
                in the directory only once this has returned: if it raises, or the process dies in it, the next run
                calls it with these frames again, so each frame is handed over at least once.
            directory: store the blocks there, and continue a run that is there; blocks that were lost in the middle
                are made again.
            neighbours: pairs that interact, for a model with a cutoff whose neighbours do not change; None means
                all pairs.
            trajectories: whole numbers that name the systems, int64, shape (B,): the noise of a stochastic method
                depends on them and on nothing else of the batch. None takes 0 … B − 1. Refused by other methods.
            progress: show a progress bar, counting steps times systems, on standard error.

        Raises:
            TypeError: the method cannot advance such a system.
            ValueError: a number is impossible, an initial state is beyond ``divergence_bound``, or something is given
                that would be ignored: neighbours of an exact system, names of a method without noise.
            ConfigError: the directory holds another run.
            DataError: the manifest of the directory is damaged, or blocks are there without one.
            ConvergenceError: a step was not solved, and the method, given as an object, has ``on_failure="raise"``.
        """
        check_step_counts(num_steps, save_every)
        with torch.no_grad():
            chunks = self._chunks(state, particles, neighbours, trajectories)
            store = None
            if directory is not None:
                what = manifest(
                    self,
                    state,
                    chunks,
                    save_every=save_every,
                    neighbours=neighbours,
                    trajectories=trajectories,
                )
                store = StoredRollout.open(directory, what)
            run = OneRun(self, chunks, state.t, save_every, num_steps, on_frames, store)
            return run.to_the_end(progress=progress)

    def chosen_method(self) -> Method:
        """The method itself, not compiled; one given by its name marks systems that it cannot advance with NaN."""
        method = get_method(self.method)
        if not isinstance(self.method, Method) and "on_failure" in method.options():
            return method.with_options(on_failure="nan")
        return method

    def _method(self) -> Method:
        method = self.chosen_method()
        refuse_adaptive(method, "Rollout")
        return Compiled(method) if self.compile else method

    def _chunks(
        self,
        state: PhaseState,
        particles: Particles | None,
        neighbours: NeighbourMatrix | None,
        trajectories: Tensor | None,
    ) -> list[Chunk]:
        method = self._method()
        driven = isinstance(self.hamiltonian, DrivenHamiltonian | DrivenSystem)
        if self.compile and driven:
            raise ValueError("compile=True is for systems that do not depend on time: leave it out")
        named = method.named_start(trajectories, state.q)
        if named is None and method.stochastic:
            named = {"trajectory": torch.arange(len(state.q), device=state.q.device)}
        return [
            Chunk(
                system,
                method,
                method.dynamics(system),
                state.q[rows],
                state.p[rows],
                memory={name: names[rows] for name, names in (named or {}).items()},
                bound=self.divergence_bound,
            )
            for rows, system in bound_systems(self.hamiltonian, state, particles, neighbours, self.batch_size)
        ]
