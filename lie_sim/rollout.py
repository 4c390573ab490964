"""Long trajectories of many systems, without gradients, that survive the divergence of some of them.

    (q, p)_{k+1} = Φ_h^{save_every·substeps}((q, p)_k),      k = 0 … T−2,   Φ_h one step of a splitting method

A system whose state stops being finite, or grows beyond a bound, is NaN from that saved time on. Its place in
the batch is kept by its (finite) initial state, so that the others are computed the same way, to the bit.

Shape letters: B batch, T saved times, N particles, d space dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.integrators import Memory, Method, SystemDynamics, advance, separable_dynamics
from lie_sim.integrators.stepper import check_step_counts
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import System


@dataclass(frozen=True)
class Rollout:
    """Trajectories of a batch of systems.

    Args:
        times: time since the initial state, float64, shape (T,).
        q: positions, shape (B, T, N, d); NaN once a system has diverged.
        p: momenta, shape (B, T, N, d); NaN likewise.
        energy: H of the model that made the trajectory, shape (B, T); NaN likewise.
        diverged: whether a system diverged before the last time, shape (B,).
    """

    times: Float[Tensor, " T"]
    q: Float[Tensor, "B T N d"]
    p: Float[Tensor, "B T N d"]
    energy: Float[Tensor, "B T"]
    diverged: Bool[Tensor, " B"]


@dataclass(frozen=True)
class RolloutError:
    """How far a rollout is from the truth, as a function of time.

    Args:
        times: shape (T,).
        per_system: mean squared error of each system, shape (B, T); NaN where it has diverged.
        mean: mean over the systems that have not diverged yet, shape (T,); NaN where none is left.
        diverged_share: share of the systems left out of ``mean``, between 0 and 1, shape (T,).
    """

    times: Float[Tensor, " T"]
    per_system: Float[Tensor, "B T"]
    mean: Float[Tensor, " T"]
    diverged_share: Float[Tensor, " T"]


@runtime_checkable
class _BoundSystem(Protocol):
    """What a rollout needs: the dynamics, and the energy to report."""

    def force(self, q: Tensor) -> Tensor: ...

    def velocity(self, p: Tensor) -> Tensor: ...

    def energy(self, state: PhaseState) -> Tensor: ...


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
) -> Rollout:
    """Integrate every system of a batch from its initial state.

    Args:
        hamiltonian: learned (:class:`~lie_sim.hamiltonian.Hamiltonian`), or exact
            (:class:`~lie_sim.systems.System`).
        state: initial positions and momenta, shape (B, N, d).
        particles: what the particles are, shape (B, N, ·).
        step_size: h in the unit of time; negative runs backwards.
        num_steps: number of steps of length h, a multiple of ``save_every``.
        method: name of a splitting method, or the method itself.
        save_every: keep every so many-th state.
        substeps: cut each step of length h into so many steps of the method.
        batch_size: integrate so many systems at a time, to bound memory; None means all of them.
        progress: show a progress bar, counting steps times systems, on standard error.
        neighbours: pairs that interact, for a model with a cutoff whose neighbours do not change; None means
            all pairs.
        divergence_bound: largest absolute coordinate or momentum of a trajectory that is taken seriously.

    Returns:
        The trajectories at the times 0, save_every·h, …, num_steps·h, without gradients.

    Raises:
        TypeError: the Hamiltonian is not separable.
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
    check_step_counts(num_steps, save_every)
    _check_sizes(state, particles, substeps, batch_size, divergence_bound)
    total = state.q.shape[0]
    chunk = batch_size or max(total, 1)
    parts = []
    with torch.no_grad(), tqdm(total=total * num_steps, unit="step", disable=not progress) as bar:
        for start in range(0, max(total, 1), chunk):
            select = slice(start, start + chunk)
            bound = _bind(hamiltonian, particles[select], _select(neighbours, select))
            runner = _Chunk(
                bound, state.q[select], state.p[select], num_steps // save_every + 1, divergence_bound
            )
            for _ in range(num_steps // save_every):
                runner.step(step_size / substeps, save_every * substeps, method)
                bar.update(save_every * len(runner.alive))
            parts.append(runner)
        times = (
            torch.arange(0, num_steps + 1, save_every, dtype=torch.float64, device=state.q.device) * step_size
        )
        q, p, energy = (torch.cat([getattr(part, name) for part in parts]) for name in ("q", "p", "energy"))
        return Rollout(times, q, p, energy, diverged=torch.cat([~part.alive for part in parts]))


def mean_squared_error(
    rollout: Rollout,
    truth: tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]],
    *,
    quantity: Literal["state", "q", "p"] = "state",
    mask: Bool[Tensor, "B N"] | None = None,
) -> RolloutError:
    """Mean squared error at every time, and the share of systems it could not be taken of.

    Args:
        rollout: the trajectories to judge.
        truth: positions and momenta at the same times, each (B, T, N, d).
        quantity: compare positions, momenta, or both with equal weight (``"state"``).
        mask: True where a particle exists, shape (B, N); None means all of them.

    Raises:
        ValueError: the shapes differ, or the quantity is unknown.

    Example:
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(4, generator=torch.Generator().manual_seed(0))
        >>> result = rollout(system, state, particles, step_size=0.01, num_steps=100, save_every=50)
        >>> error = mean_squared_error(result, system.trajectory(state, particles, result.times))
        >>> bool(error.mean[-1] < 1e-8), error.diverged_share.tolist()
        (True, [0.0, 0.0, 0.0])
    """
    pairs = {"q": (rollout.q, truth[0]), "p": (rollout.p, truth[1])}
    if quantity not in ("state", "q", "p"):
        raise ValueError(f'quantity must be "state", "q" or "p", got {quantity!r}')
    squares = []
    for name in ("q", "p") if quantity == "state" else (quantity,):
        ours, theirs = pairs[name]
        if ours.shape != theirs.shape:
            raise ValueError(
                f"{name} of the truth must have the shape (B, T, N, d) = {tuple(ours.shape)} of the rollout; "
                f"got {tuple(theirs.shape)}"
            )
        squares.append((ours - theirs).square())
    per_particle = torch.stack(squares).mean((0, -1))  # (B, T, N)
    weight = (
        torch.ones_like(per_particle)
        if mask is None
        else mask[:, None].to(per_particle).expand_as(per_particle)
    )
    per_system = torch.where(weight > 0, per_particle, 0.0).sum(-1) / weight.sum(-1)
    return RolloutError(
        times=rollout.times,
        per_system=per_system,
        mean=per_system.nanmean(0),
        diverged_share=per_system.isnan().to(per_system).mean(0),
    )


def energy_change(
    rollout: Rollout, particles: Particles, *, energy: Float[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T"]:
    """Change of an energy along trajectories, in units of their own mean kinetic energy.

        (E(t) − E(0)) / ⟨ Σ_i |p_i|² / (2 m_i) ⟩,      ⟨·⟩ the mean over the saved times that are finite

    The zero of a potential is arbitrary, so |E(0)| would be no scale.

    Args:
        rollout: the trajectories.
        particles: what the particles are, shape (B, N, ·).
        energy: E at the same times, shape (B, T); None takes the energy of the model that made them.

    Returns:
        Shape (B, T), float64; NaN once a system has diverged, and for one that is at rest throughout.

    Example:
        >>> q, p = torch.zeros(1, 2, 1, 1), torch.tensor([2.0, 4.0]).reshape(1, 2, 1, 1)
        >>> path = Rollout(torch.arange(2.0), q, p, torch.tensor([[7.0, 8.0]]), torch.tensor([False]))
        >>> energy_change(path, Particles(masses=torch.ones(1, 1)))
        tensor([[0.0000, 0.2000]], dtype=torch.float64)
    """
    values = (rollout.energy if energy is None else energy).double()
    particles = particles.to(device=rollout.p.device, dtype=torch.float64)
    terms = rollout.p.double().square().sum(-1) / (2 * particles.masses[:, None])
    if particles.mask is not None:
        terms = torch.where(particles.mask[:, None], terms, 0.0)
    scale = terms.sum(-1).nanmean(1, keepdim=True)
    return (values - values[:, :1]) / torch.where(scale > 0, scale, torch.nan)


class _Chunk:
    """Systems that advance together, with the memory for their trajectories."""

    def __init__(self, dynamics: _BoundSystem, q: Tensor, p: Tensor, num_saved: int, bound: float) -> None:
        self.dynamics, self.bound = dynamics, bound
        self.alive = (q.isfinite() & p.isfinite()).flatten(1).all(1)
        beyond = self.alive & (self._size(q, p) > bound)
        if bool(beyond.any()):
            largest = float(self._size(q, p)[beyond].max())
            raise ValueError(
                f"an initial state has a coordinate or momentum of {largest:.3g}, "
                f"beyond divergence_bound={bound:g}: raise divergence_bound, or use other units"
            )
        self._spare = (q.nan_to_num(0.0, 0.0, 0.0), p.nan_to_num(0.0, 0.0, 0.0))
        self._state = self._spare
        self._memory: Memory | None = None
        shape = (q.shape[0], num_saved, *q.shape[1:])
        self.q, self.p = q.new_full(shape, torch.nan), p.new_full(shape, torch.nan)
        self.energy = q.new_full(shape[:2], torch.nan)
        self._next = 0
        self._save()

    def step(self, step_size: float, num_steps: int, method: str | Method) -> None:
        """Advance to the next saved time; replace what diverged on the way."""
        q, p, self._memory = advance(
            self.dynamics,
            *self._state,
            step_size=step_size,
            num_steps=num_steps,
            method=method,
            memory=self._memory,
        )
        good = self._size(q, p) <= self.bound  # False for NaN
        self.alive = self.alive & good
        if not bool(self.alive.all()):
            keep = self.alive[:, None, None]
            q, p = (torch.where(keep, new, spare) for new, spare in zip((q, p), self._spare, strict=True))
            if "force" in self._memory:  # of a system that diverged: anything finite
                self._memory["force"] = torch.where(keep, self._memory["force"], 0.0)
        self._state = (q, p)
        self._save()

    def _save(self) -> None:
        q, p = self._state
        keep = self.alive[:, None, None]
        self.q[:, self._next] = torch.where(keep, q, torch.nan)
        self.p[:, self._next] = torch.where(keep, p, torch.nan)
        energy = self.dynamics.energy(PhaseState(q=q, p=p))
        self.energy[:, self._next] = torch.where(self.alive, energy, torch.nan)
        self._next += 1

    @staticmethod
    def _size(q: Tensor, p: Tensor) -> Tensor:
        return torch.maximum(q.flatten(1).abs().amax(1), p.flatten(1).abs().amax(1))


def _bind(
    hamiltonian: Hamiltonian | System, particles: Particles, neighbours: NeighbourMatrix | None
) -> _BoundSystem:
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


def _check_sizes(
    state: PhaseState, particles: Particles, substeps: int, batch_size: int | None, bound: float
) -> None:
    if particles.masses.shape != state.q.shape[:2]:
        raise ValueError(
            "state and particles must hold the same systems: state.q has (B, N) = "
            f"{tuple(state.q.shape[:2])}, the masses have {tuple(particles.masses.shape)}"
        )
    if substeps < 1 or (batch_size is not None and batch_size < 1) or not bound > 0:
        raise ValueError(
            "substeps and batch_size must be >= 1 and divergence_bound > 0; got "
            f"{substeps}, {batch_size} and {bound}"
        )
