r"""Charges without softening, as the N-body benchmark of equivariant networks has them; not a Hamiltonian system.

    F_i = Σ_j c_i c_j (q_i − q_j) / |q_i − q_j|³,     each component clipped to ±0.1/h
    v ← v + h F(q),     q ← q + h v,     h = 10⁻³

Clipping and close encounters spoil the energy, and a saved velocity is that half a step before the saved position. This
is kept for comparison with published tables; what is to be learned as a Hamiltonian is
:class:`~lie_sim.systems.SoftenedCharges`, of the same distribution.

Shape letters: B batch, N particles, T frames.
References: Kipf et al., ICML 2018 (the simulator); Fuchs et al., NeurIPS 2020, and Satorras, Hoogeboom, Welling, "E(n)
equivariant graph neural networks", ICML 2021, arXiv:2102.09844 (in 3-D; the draws are those of its released code).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.systems.nbody import inverse_square_force

STEP = 1e-3
STEPS_PER_FRAME = 100
FRAMES = 49
"""Frames of a published trajectory; frame k is that of the time (k + 1) · 0.1."""
LARGEST_FORCE = 0.1 / STEP
_PARTICLES, _SPEED = 5, 0.5


def clipped_motion(
    q: Float[Tensor, "B N 3"],
    velocities: Float[Tensor, "B N 3"],
    charges: Float[Tensor, "B N"],
    *,
    num_frames: int = FRAMES,
) -> tuple[Float[Tensor, "B T N 3"], Float[Tensor, "B T N 3"]]:
    """Positions and velocities of many systems at the published frames.

    Args:
        q: positions at time 0, float64.
        velocities: likewise; all masses are 1.
        charges: c.
        num_frames: T.

    Example:
        >>> q, v, charges = published_states(2, seed=43)
        >>> clipped_motion(q, v, charges, num_frames=2)[0].shape
        torch.Size([2, 2, 5, 3])
    """
    frames: list[tuple[Tensor, Tensor]] = []
    for _ in range(num_frames):
        for _ in range(STEPS_PER_FRAME):
            force = inverse_square_force(q, charges, 0.0).clamp(-LARGEST_FORCE, LARGEST_FORCE)
            velocities = velocities + STEP * force
            q = q + STEP * velocities
        frames.append((q, velocities))
    positions, motion = zip(*frames, strict=True)
    return torch.stack(positions, 1), torch.stack(motion, 1)


def published_states(
    count: int, *, seed: int, first: int = 0
) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N 3"], Float[Tensor, "B N"]]:
    """Positions, velocities and charges of the first systems of a published seed: the same numbers.

    Five particles, charges ±1 with equal probability, positions N(0, 1), velocities of length 0.5. Positions outside of
    the published box of ±5, of which one system in a hundred thousand has one, are left there.

    Args:
        count: B.
        seed: of NumPy's Mersenne Twister; 43 for the small set of the benchmark.
        first: number of the first system.

    Example:
        >>> q, v, charges = published_states(3, seed=43)
        >>> torch.equal(q[1:], published_states(2, seed=43, first=1)[0]), sorted(charges.unique().tolist())
        (True, [-1.0, 1.0])
    """
    random = np.random.RandomState(seed)
    systems = [_published_state(random) for _ in range(first + count)][first:]
    q, v, charges = (torch.from_numpy(np.stack(part)) for part in zip(*systems, strict=True))
    return q.mT.contiguous(), v.mT.contiguous(), charges


def _published_state(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The draws of one system in the order in which the released code makes them."""
    charges = random.choice([-1.0, 0.0, 1.0], size=_PARTICLES, p=[0.5, 0.0, 0.5])
    q, v = random.randn(3, _PARTICLES), random.randn(3, _PARTICLES)
    random.randn(2, FRAMES, 3, _PARTICLES)  # errors of observation, which it multiplies by 0
    return q, _SPEED * v / np.linalg.norm(v, axis=0), charges
