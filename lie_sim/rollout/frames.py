"""Trajectories of a batch of systems, and how far they are from the truth.

Shape letters: B batch, T saved times, F frames of a block, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lie_sim.state import Particles


@dataclass(frozen=True)
class RolloutResult:
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
class Frames:
    """Some consecutive saved times of a run, as it hands them over.

    Args:
        first: number of the first of them; frame 0 is the initial state.
        times: time since the initial state, float64, shape (F,).
        q: positions, shape (B, F, N, d); NaN once a system has diverged.
        p: momenta, shape (B, F, N, d); NaN likewise.
        energy: H of the model, shape (B, F); NaN likewise.
    """

    first: int
    times: Float[Tensor, " F"]
    q: Float[Tensor, "B F ..."]
    p: Float[Tensor, "B F ..."]
    energy: Float[Tensor, "B F"]


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


def mean_squared_error(
    rollout: RolloutResult,
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
        >>> from lie_sim.rollout import rollout
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
    rollout: RolloutResult, particles: Particles, *, energy: Float[Tensor, "B T"] | None = None
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
        >>> path = RolloutResult(torch.arange(2.0), q, p, torch.tensor([[7.0, 8.0]]), torch.tensor([False]))
        >>> energy_change(path, Particles(masses=torch.ones(1, 1)))
        tensor([[0.0000, 0.2000]], dtype=torch.float64)
    """
    values = (rollout.energy if energy is None else energy).double()
    scale = _kinetic(rollout.p, particles).nanmean(1, keepdim=True)
    return (values - values[:, :1]) / torch.where(scale > 0, scale, torch.nan)


def largest_energy_change(blocks: Iterable[Frames], particles: Particles) -> Float[Tensor, " B"]:
    """Largest magnitude of :func:`energy_change` of each system, from blocks that are looked at one at a time.

    Args:
        blocks: all frames of a run in order, as ``StoredRollout.blocks()`` gives them.
        particles: what the particles are, shape (B, N, ·).

    Returns:
        Shape (B,), float64; NaN for a system that is at rest throughout. After a system has diverged
        nothing counts.

    Raises:
        ValueError: there are no frames.

    Example:
        >>> q, p = torch.zeros(1, 1, 1, 1), torch.tensor([2.0, 4.0]).reshape(2, 1, 1, 1, 1)
        >>> energy = torch.tensor([7.0, 8.0]).reshape(2, 1, 1)
        >>> blocks = [Frames(k, torch.tensor([float(k)]), q, p[k], energy[k]) for k in range(2)]
        >>> largest_energy_change(blocks, Particles(masses=torch.ones(1, 1)))
        tensor([0.2000], dtype=torch.float64)
    """
    first: Tensor | None = None
    sums = torch.zeros(0)
    for block in blocks:
        values, terms = block.energy.double(), _kinetic(block.p, particles)
        if first is None:
            first, sums = values[:, 0], torch.zeros_like(values[:, 0]).expand(3, -1)
        change = (values - first[:, None]).abs().nan_to_num(0.0).amax(1)
        largest = torch.maximum(sums[0], change)
        sums = torch.stack([largest, sums[1] + terms.nansum(1), sums[2] + terms.isfinite().sum(1)])
    if first is None:
        raise ValueError("there are no frames: a run stores at least its initial state")
    largest, kinetic, count = sums
    scale = torch.where(kinetic > 0, kinetic / count, torch.nan)
    return torch.div(largest, scale)


def _kinetic(p: Float[Tensor, "B T N d"], particles: Particles) -> Float[Tensor, "B T"]:
    """Kinetic energies in float64; NaN once a system has diverged."""
    particles = particles.to(device=p.device, dtype=torch.float64)
    terms = p.double().square().sum(-1) / (2 * particles.masses[:, None])
    if particles.mask is not None:
        terms = torch.where(particles.mask[:, None], terms, 0.0)
    return terms.sum(-1)
