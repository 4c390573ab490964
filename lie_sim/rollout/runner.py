"""Run many systems for a long time: bounded memory, progress, resume, drift watch.

    frame k = Φ_h^{k·save_every·substeps} (q₀, p₀),      k = 0 … num_steps / save_every,   Φ_h one step of a method

Frames are handed over in blocks as they are made, so memory does not grow with the length of a run. In a directory,
every block is kept together with the state after it, and a run that was killed goes on from the last one to the same
bits (same shapes, device and number of threads).

Shape letters: B batch, T saved times, F frames of a block, N particles, d space dimension.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from tqdm import tqdm

from lie_sim.data.storage import tensors_digest
from lie_sim.errors import ConfigError
from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.integrators import Compiled, Memory, Method, SystemDynamics, get_method, separable_dynamics
from lie_sim.integrators.stepper import check_step_counts, refuse_adaptive
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout.chunk import BoundSystem, Chunk
from lie_sim.rollout.directory import StoredRollout
from lie_sim.rollout.frames import Frames, RolloutResult
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import System


@dataclass(frozen=True)
class RolloutEnd:
    """Where a run ended.

    Args:
        state: positions, momenta and time, each system's last finite state or, if it diverged, its first.
        num_steps: steps done.
        diverged: whether a system diverged on the way, shape (B,).
        drift: largest |H − H₀| over the mean kinetic energy so far, among the frames of the last block, shape (B,);
            with a thermostat, which exchanges energy, it says nothing.
        stopped_by_drift: whether the run ended early because of it.
    """

    state: PhaseState
    num_steps: int
    diverged: Bool[Tensor, " B"]
    drift: Float[Tensor, " B"]
    stopped_by_drift: bool = False


@dataclass(frozen=True)
class Rollout:
    """Runs a Hamiltonian or a ground-truth system, without gradients.

    Args:
        hamiltonian: a learned :class:`~lie_sim.hamiltonian.Hamiltonian`, or an exact
            :class:`~lie_sim.systems.System`.
        method: name of a method of :mod:`lie_sim.integrators`, or the method itself, options included.
        step_size: h in the unit of time; negative runs backwards.
        substeps: cut each step of length h into so many steps of the method.
        batch_size: advance so many systems at a time, to bound memory; None means all of them.
        frames_per_block: frames that are handed over, or stored, together.
        divergence_bound: largest absolute coordinate or momentum of a trajectory that is taken seriously.
        drift_bound: what to call too much drift: |H − H₀| over the mean kinetic energy so far; None for no watch.
        on_drift: "warn" once, or "stop" after the block in which it happens.
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
        self._method()
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
            on_frames: called with each block of frames; of a run that is continued, with the new ones only.
            directory: store the blocks there, and continue a run that is there.
            neighbours: pairs that interact, for a model with a cutoff whose neighbours do not change; None means
                all pairs.
            trajectories: whole numbers that name the systems, int64, shape (B,): the noise of a stochastic method
                depends on them and on nothing else of the batch. None takes 0 … B − 1.
            progress: show a progress bar, counting steps times systems, on standard error.

        Raises:
            TypeError: the method cannot advance such a system.
            ValueError: a number is impossible, or an initial state is beyond ``divergence_bound``.
            ConfigError: the directory holds another run.
        """
        check_step_counts(num_steps, save_every)
        with torch.no_grad():
            method = self._method()
            chunks = self._chunks(method, state, particles, neighbours, trajectories)
            more = {"trajectories": trajectories, **_neighbour_tensors(neighbours)}
            store = None if directory is None else self._store(directory, state, chunks, save_every, more)
            run = _Run(self, chunks, save_every, num_steps, on_frames, store)
            return run.to_the_end(progress=progress)

    def _method(self) -> Method:
        method = get_method(self.method)
        refuse_adaptive(method, "Rollout")
        return Compiled(method) if self.compile else method

    def _chunks(
        self,
        method: Method,
        state: PhaseState,
        particles: Particles | None,
        neighbours: NeighbourMatrix | None,
        trajectories: Tensor | None,
    ) -> list[Chunk]:
        particles = _particles_of(self.hamiltonian, particles)
        _check_systems(state, particles)
        total = state.q.shape[0]
        ids = torch.arange(total, device=state.q.device) if trajectories is None else trajectories
        size = self.batch_size or max(total, 1)
        chunks = []
        for start in range(0, max(total, 1), size):
            rows = slice(start, start + size)
            system = _bind(self.hamiltonian, particles[rows], _select(neighbours, rows))
            memory: Memory = {"trajectory": ids[rows]} if method.stochastic else {}
            chunks.append(
                Chunk(
                    system,
                    method,
                    method.dynamics(system),
                    state.q[rows],
                    state.p[rows],
                    memory=memory,
                    bound=self.divergence_bound,
                )
            )
        return chunks

    def _store(
        self,
        directory: str | Path,
        state: PhaseState,
        chunks: list[Chunk],
        save_every: int,
        more: dict[str, Tensor | None],
    ) -> StoredRollout:
        method = get_method(self.method)
        model = self.hamiltonian
        tensors = dict(model.state_dict()) if isinstance(model, nn.Module) else {}
        manifest = {
            "model": f"{type(model).__module__}.{type(model).__qualname__}",
            "weights": tensors_digest(tensors),
            "options": repr(model) if isinstance(model, System) else _architecture(model),
            "start": tensors_digest({"q": state.q, "p": state.p}),
            "particles": tensors_digest(
                {f"{k}.{name}": x for k, c in enumerate(chunks) for name, x in _particle_tensors(c).items()}
            ),
            "method": method.name,
            "method_options": {name: repr(value) for name, value in method.options().items()},
            "others": tensors_digest({name: x for name, x in more.items() if x is not None}),
            "divergence_bound": self.divergence_bound,
            "step_size": float(self.step_size),
            "substeps": self.substeps,
            "save_every": save_every,
            "batch_size": self.batch_size,
            "compile": self.compile,
            "dtype": str(state.q.dtype),
        }
        return StoredRollout.open(directory, manifest)


class _Run:
    """One run: which frames are done, and who is told of them."""

    def __init__(
        self,
        options: Rollout,
        chunks: list[Chunk],
        save_every: int,
        num_steps: int,
        on_frames: Callable[[Frames], None] | None,
        store: StoredRollout | None,
    ) -> None:
        self.options, self.chunks, self.save_every = options, chunks, save_every
        self.num_frames = num_steps // save_every + 1
        self.on_frames, self.store = on_frames, store
        self.done = 0
        self.drift = torch.zeros(sum(len(chunk.alive) for chunk in chunks), dtype=torch.float64)
        self.warned = False
        if store is not None:
            self._resume(store)

    def to_the_end(self, *, progress: bool) -> RolloutEnd:
        """Block by block."""
        systems = len(self.drift)
        total = systems * (self.num_frames - 1) * self.save_every
        begun = systems * max(self.done - 1, 0) * self.save_every
        stopped = False
        with tqdm(
            total=total, initial=begun, unit="system-steps", desc="rollout", disable=not progress
        ) as bar:
            while self.done < self.num_frames and not stopped:
                stopped = self._block(bar)
        q, p, alive = (
            torch.cat([getattr(chunk, name) for chunk in self.chunks]) for name in ("q", "p", "alive")
        )
        done = (self.done - 1) * self.save_every
        t = torch.full((len(q),), done * self.options.step_size, dtype=torch.float64, device=q.device)
        return RolloutEnd(PhaseState(q=q, p=p, t=t), done, ~alive, self.drift, stopped)

    def _block(self, bar: Any) -> bool:
        """The next frames of all chunks; whether the drift stops the run."""
        count = min(self.options.frames_per_block, self.num_frames - self.done)
        parts, drifts = [], []
        for chunk in self.chunks:
            frames, drift = [], torch.zeros_like(chunk.kinetic_sum)
            for number in range(count):
                frames.append(self._next_frame(chunk, self.done + number, bar))
                drift = torch.maximum(drift, chunk.drift(frames[-1][2]))
            parts.append([torch.stack(part, dim=1) for part in zip(*frames, strict=True)])
            drifts.append(drift.cpu())
        numbers = torch.arange(self.done, self.done + count, dtype=torch.float64)
        q, p, energy = (torch.cat(part) for part in zip(*parts, strict=True))
        times = numbers.to(q.device) * (self.save_every * self.options.step_size)
        frames_of_all = Frames(self.done, times, q, p, energy)
        self.done += count
        self.drift = torch.cat(drifts)
        if self.store is not None:
            self.store.write(frames_of_all, self._end())
        if self.on_frames is not None:
            self.on_frames(frames_of_all)
        self._show(bar)
        return self._too_much_drift()

    def _next_frame(self, chunk: Chunk, number: int, bar: Any) -> tuple[Tensor, Tensor, Tensor]:
        if number > 0:
            options = self.options
            chunk.advance(options.step_size / options.substeps, self.save_every * options.substeps)
            bar.update(self.save_every * len(chunk.alive))
        return chunk.frame()

    def _show(self, bar: Any) -> None:
        diverged = sum(int((~chunk.alive).sum()) for chunk in self.chunks)
        bar.set_postfix(drift=f"{float(self.drift.max()):.1e}" if len(self.drift) else "", diverged=diverged)

    def _too_much_drift(self) -> bool:
        bound = self.options.drift_bound
        if bound is None or not bool((self.drift > bound).any()):
            return False
        if not self.warned:
            self.warned = True
            count, worst = int((self.drift > bound).sum()), float(self.drift.max())
            warnings.warn(
                f"the energy of {count} of {len(self.drift)} systems has changed by more than {bound:g} of the mean "
                f"kinetic energy (by {worst:.2g} at most): use a smaller step, or another method",
                stacklevel=2,
            )
        return self.options.on_drift == "stop"

    def _end(self) -> dict[str, Tensor]:
        """The states of all chunks, by number and name; ``alive`` once more for all together."""
        ends = {
            f"{k}.{name}": x for k, chunk in enumerate(self.chunks) for name, x in chunk.tensors().items()
        }
        return {**ends, "alive": torch.cat([chunk.alive for chunk in self.chunks])}

    def _resume(self, store: StoredRollout) -> None:
        end, done = store.last_state()
        if not done:
            return
        if done > self.num_frames:
            raise ConfigError(
                f"{store.directory} holds {(done - 1) * self.save_every:,} steps already, more than the "
                f"{(self.num_frames - 1) * self.save_every:,} asked for: read them with StoredRollout"
            )
        self.done = done
        for k, chunk in enumerate(self.chunks):
            prefix = f"{k}."
            own = {n.removeprefix(prefix): x for n, x in end.items() if n.startswith(prefix)}
            chunk.restore(own, done)


def rollout(
    hamiltonian: Hamiltonian | System,
    state: PhaseState,
    particles: Particles,
    *,
    step_size: float,
    num_steps: int,
    method: str | Method = "pefrl",
    save_every: int = 1,
    substeps: int = 1,
    batch_size: int | None = None,
    progress: bool = False,
    neighbours: NeighbourMatrix | None = None,
    divergence_bound: float = 1e6,
) -> RolloutResult:
    """Run every system of a batch and return its whole trajectory; :class:`Rollout` streams and stores.

    Args:
        hamiltonian: learned (:class:`~lie_sim.hamiltonian.Hamiltonian`), or exact
            (:class:`~lie_sim.systems.System`).
        state: initial positions and momenta, shape (B, N, d).
        particles: what the particles are, shape (B, N, ·).
        step_size: h in the unit of time; negative runs backwards.
        num_steps: number of steps of length h, a multiple of ``save_every``.
        method: name of a method of :mod:`lie_sim.integrators`, or the method itself.
        save_every: keep every so many-th state.
        substeps: cut each step of length h into so many steps of the method.
        batch_size: advance so many systems at a time, to bound memory; None means all of them.
        progress: show a progress bar, counting steps times systems, on standard error.
        neighbours: pairs that interact, for a model with a cutoff whose neighbours do not change; None means
            all pairs.
        divergence_bound: largest absolute coordinate or momentum of a trajectory that is taken seriously.

    Returns:
        The trajectories at the times 0, save_every·h, …, num_steps·h, without gradients.

    Raises:
        TypeError: the method cannot advance such a system.
        ValueError: a number is impossible, or an initial state is beyond ``divergence_bound``.

    Example:
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(4, generator=torch.Generator().manual_seed(0))
        >>> result = rollout(system, state, particles, step_size=0.01, num_steps=100, save_every=10)
        >>> result.q.shape, bool(result.diverged.any())
        (torch.Size([4, 11, 3, 2]), False)
        >>> bool((result.energy - result.energy[:, :1]).abs().max() < 1e-5)
        True
    """
    blocks: list[Frames] = []
    runner = Rollout(
        hamiltonian,
        method,
        step_size,
        substeps=substeps,
        batch_size=batch_size,
        divergence_bound=divergence_bound,
    )
    end = runner.run(
        state,
        num_steps,
        particles=particles,
        save_every=save_every,
        on_frames=blocks.append,
        neighbours=neighbours,
        progress=progress,
    )
    q, p, energy = (torch.cat([getattr(block, name) for block in blocks], 1) for name in ("q", "p", "energy"))
    return RolloutResult(torch.cat([block.times for block in blocks]), q, p, energy, diverged=end.diverged)


def _particles_of(hamiltonian: Hamiltonian | System, particles: Particles | None) -> Particles:
    bound = getattr(hamiltonian, "_particles", None) if particles is None else particles
    if bound is None:
        raise ValueError("give particles=…, or a Hamiltonian bound to them: hamiltonian.bind(particles)")
    chosen: Particles = bound
    return chosen


def _particle_tensors(chunk: Chunk) -> dict[str, Tensor]:
    particles = getattr(chunk.system, "particles", None) or getattr(chunk.system, "_particles", None)
    return {} if particles is None else {k: x for k, x in vars(particles).items() if isinstance(x, Tensor)}


def _neighbour_tensors(neighbours: NeighbourMatrix | None) -> dict[str, Tensor | None]:
    return {} if neighbours is None else {k: x for k, x in vars(neighbours).items() if isinstance(x, Tensor)}


def _architecture(model: Hamiltonian) -> str:
    """The potential and its configuration: weights alone do not make a model."""
    potential = model.potential
    return (
        f"{type(potential).__module__}.{type(potential).__qualname__}({getattr(potential, 'config', '')!r})"
    )


def _bind(
    hamiltonian: Hamiltonian | System, particles: Particles, neighbours: NeighbourMatrix | None
) -> BoundSystem:
    if isinstance(hamiltonian, System):
        return SystemDynamics(hamiltonian, particles)
    if isinstance(hamiltonian, GeneralHamiltonian):
        separable_dynamics(hamiltonian)  # explains
    return hamiltonian.bind(particles, neighbours)


def _select(neighbours: NeighbourMatrix | None, rows: slice) -> NeighbourMatrix | None:
    if neighbours is None:
        return None
    shift = None if neighbours.shift is None else neighbours.shift[rows]
    return replace(neighbours, index=neighbours.index[rows], mask=neighbours.mask[rows], shift=shift)


def _check_systems(state: PhaseState, particles: Particles) -> None:
    if particles.masses.shape != state.q.shape[:2]:
        raise ValueError(
            "state and particles must hold the same systems: state.q has (B, N) = "
            f"{tuple(state.q.shape[:2])}, the masses have {tuple(particles.masses.shape)}"
        )
