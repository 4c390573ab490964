"""Whole trajectories of a batch at once: a run whose frames are kept in memory.

Shape letters: B batch, T saved times, N particles, d space dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import Method
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout.frames import Frames, RolloutResult
from lie_sim.rollout.runner import Rollout
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import System


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
    trajectories: Tensor | None = None,
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
        method: name of a method of :mod:`lie_sim.integrators`, or the method itself; see :class:`Rollout`.
        save_every: keep every so many-th state.
        substeps: cut each step of length h into so many steps of the method.
        batch_size: advance so many systems at a time, to bound memory; None means all of them.
        progress: show a progress bar, counting steps times systems, on standard error.
        neighbours: pairs that interact, for a model with a cutoff whose neighbours do not change; None means
            all pairs.
        trajectories: whole numbers that name the systems and key the noise of a stochastic method, int64, shape (B,);
            None takes 0 … B − 1.
        divergence_bound: largest absolute coordinate or momentum of a trajectory that is taken seriously.

    Returns:
        The trajectories at the times 0, save_every·h, …, num_steps·h, without gradients.

    Raises:
        TypeError: the method cannot advance such a system.
        ValueError: a number is impossible, or an initial state is beyond ``divergence_bound``.
        ConvergenceError: a step was not solved, and the method, given as an object, has ``on_failure="raise"``.

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
        trajectories=trajectories,
        progress=progress,
    )
    q, p, energy = (torch.cat([getattr(block, name) for block in blocks], 1) for name in ("q", "p", "energy"))
    return RolloutResult(torch.cat([block.times for block in blocks]), q, p, energy, diverged=end.diverged)
