"""What a thermostat or a constraint needs beyond force and velocity: the masses, and which particles exist.

    K = ½ Σ_i p_i · v(p_i),      v(p_i) = p_i / m_i,      N_f = d · #{i : 0 < m_i < ∞} − N_removed

A particle without mass is padding: its velocity is 0 and it has no share in anything. A particle of infinite mass
is a fixed point: it pulls, and never moves.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics, separable_dynamics


def massive_dynamics(candidate: Any) -> SeparableDynamics:
    """Check that ``candidate`` has a force, a velocity and masses.

    Raises:
        TypeError: it lacks one of these; the message says which.
    """
    owner = separable_dynamics(candidate)
    if callable(getattr(owner, "particle_masses", None)) or _stored_masses(owner) is not None:
        return owner
    raise TypeError(
        f"this method needs the masses, which {type(owner).__name__} does not tell: give it an attribute masses "
        "of shape (B, N), or pass a Hamiltonian bound to its particles or SystemDynamics(system, particles)"
    )


class MassiveSystem:
    """Dynamics together with their masses, for one call of a method.

    Args:
        dynamics: as checked by :func:`massive_dynamics`.
        q: positions, shape (B, N, d); gives shape, dtype and device.

    Attributes:
        masses: shape (B, N, 1); 0 where there is no particle.
        free: which particles can move, shape (B, N, 1).

    Raises:
        ValueError: the positions have not the shape (B, N, d), or the masses another one than (B, N).
    """

    def __init__(self, dynamics: Any, q: Tensor) -> None:
        self._dynamics = dynamics
        self.force = dynamics.force
        if q.ndim < 3:
            raise ValueError(f"this method needs positions of shape (B, N, d), got {tuple(q.shape)}")
        masses = _known_masses(dynamics).to(q)
        if masses.ndim > 2 or masses.shape[-1] != q.shape[1] or masses.shape[:-1] not in ((), q.shape[:1]):
            raise ValueError(
                f"masses must have the shape (B, N) = {tuple(q.shape[:2])} of the positions; got {tuple(masses.shape)}"
            )
        mask = getattr(_particles(dynamics), "mask", None)
        masses = masses if mask is None else torch.where(mask, masses, 0.0)
        self.masses: Float[Tensor, "B N 1"] = masses.expand(q.shape[:2])[..., None]
        self._exists: Bool[Tensor, "B N 1"] = self.masses > 0
        self.free: Bool[Tensor, "B N 1"] = self._exists & self.masses.isfinite()
        self._padded = q.device.type != "cpu" or not bool(self._exists.all())

    @property
    def free_masses(self) -> Float[Tensor, "B N 1"]:
        """Masses of the particles that move, 1 for the others; safe to divide by and to differentiate."""
        return torch.where(self.free, self.masses, 1.0)

    def velocity(self, p: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
        """p/m, and 0 where there is no particle; so is its derivative."""
        if not self._padded:
            unpadded: Tensor = self._dynamics.velocity(p)
            return unpadded
        v = self._dynamics.velocity(torch.where(self._exists, p, 0.0))
        return torch.where(self._exists, v, 0.0)

    def twice_kinetic_energy(self, p: Float[Tensor, "B N d"]) -> Float[Tensor, " B"]:
        """2K = Σ p·v of each system, shape (B,); what cannot move, a clock among it, has no share."""
        return torch.where(self.free, p * self.velocity(p), 0.0).sum((1, 2))

    def degrees_of_freedom(self, dim: int, removed: int) -> Float[Tensor, " B"]:
        """N_f of each system, shape (B,).

        Args:
            dim: d.
            removed: how many are lost to conservation laws and constraints.

        Raises:
            ValueError: none is left.
        """
        count = self.free.sum((1, 2)) * dim - removed
        if count.device.type == "cpu" and not bool((count > 0).all()):
            raise ValueError(
                "every system needs at least one degree of freedom; removed_degrees_of_freedom="
                f"{removed} leaves {count.tolist()}"
            )
        return count.to(self.masses)


def _known_masses(owner: Any) -> Tensor:
    if callable(getattr(owner, "particle_masses", None)):
        masses: Tensor = owner.particle_masses()
        return masses
    stored = _stored_masses(owner)
    assert stored is not None, "massive_dynamics has checked it"
    return stored


def _stored_masses(owner: Any) -> Tensor | None:
    for holder in (_particles(owner), owner):
        masses = getattr(holder, "masses", None)
        if isinstance(masses, Tensor):
            return masses
    return None


def _particles(owner: Any) -> Any:
    known = getattr(owner, "particles", None)
    return known if known is not None else getattr(owner, "_particles", None)
