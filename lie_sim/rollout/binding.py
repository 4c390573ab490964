"""Systems of a batch, bound to the Hamiltonian that moves them, in chunks that are advanced together.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from lie_sim.driven import DrivenHamiltonian
from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.integrators import Clocked, DrivenDynamics, SystemDynamics, separable_dynamics
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout.chunk import BoundSystem
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenSystem, System


def bound_systems(
    hamiltonian: Hamiltonian | System,
    state: PhaseState,
    particles: Particles | None,
    neighbours: NeighbourMatrix | None,
    batch_size: int | None,
) -> Iterator[tuple[slice, BoundSystem]]:
    """Each chunk's rows in the batch, and the Hamiltonian bound to its particles; one chunk if there are no systems.

    Args:
        hamiltonian: learned or exact.
        state: initial positions and momenta, shape (B, N, d).
        particles: what the particles are; None takes those bound to the Hamiltonian.
        neighbours: pairs that interact, for a model with a cutoff.
        batch_size: systems of a chunk; None means all of them.

    Raises:
        TypeError: the energy cannot be split.
        ValueError: the particles are not known, not those of the state or of another dtype, or an exact system is
            given neighbours.
    """
    particles = _particles_of(hamiltonian, particles)
    _check_systems(state, particles)
    total = state.q.shape[0]
    size = batch_size or max(total, 1)
    for start in range(0, max(total, 1), size):
        rows = slice(start, start + size)
        begun = None if state.t is None else state.t[rows]
        yield rows, _bind(hamiltonian, particles[rows], _select(neighbours, rows), begun)


def _particles_of(hamiltonian: Hamiltonian | System, particles: Particles | None) -> Particles:
    bound = getattr(hamiltonian, "_particles", None) if particles is None else particles
    if bound is None:
        raise ValueError("give particles=…, or a Hamiltonian bound to them: hamiltonian.bind(particles)")
    chosen: Particles = bound
    return chosen


def _bind(
    hamiltonian: Hamiltonian | System,
    particles: Particles,
    neighbours: NeighbourMatrix | None,
    begun: Tensor | None,
) -> BoundSystem:
    origin: Tensor | float = 0.0 if begun is None else begun
    if isinstance(hamiltonian, System):
        if neighbours is not None:
            raise ValueError(
                f"{type(hamiltonian).__name__} computes all pairs and would ignore neighbours: leave them out, or give "
                "a learned Hamiltonian"
            )
        if isinstance(hamiltonian, DrivenSystem):
            return Clocked(DrivenDynamics(hamiltonian, particles), origin)
        return SystemDynamics(hamiltonian, particles)
    if isinstance(hamiltonian, GeneralHamiltonian):
        separable_dynamics(hamiltonian)  # explains
    bound = hamiltonian.bind(particles, neighbours)
    return Clocked(bound, origin) if isinstance(bound, DrivenHamiltonian) else bound


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
    dtypes = [x.dtype for x in (state.q, state.p, particles.masses)]
    if len({*dtypes}) > 1:
        q, p, masses = (str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(
            f"state and particles must have one dtype: q is {q}, p {p}, the masses are {masses}; use "
            "PhaseState(q=q.to(dtype), p=p.to(dtype)) and particles.to(dtype=dtype)"
        )
