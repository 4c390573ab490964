"""Particles joined pairwise by springs: the distribution of the LieTransformer benchmark, solved exactly.

    V(q) = ½ Σ_i Σ_j k_i k_j |q_i − q_j|²           (ordered pairs: each spring counts twice)
         = ½ qᵀ S q,     S = 2 (diag(k_i K) − k kᵀ),     K = Σ_i k_i
    F_i  = −2 k_i Σ_j k_j (q_i − q_j) = −(S q)_i

With y = Uᵀ M^{1/2} q and M^{-1/2} S M^{-1/2} = U diag(ω²) Uᵀ every mode is a harmonic oscillator:

    y(t) = y₀ cos ωt + ẏ₀ sin(ωt)/ω,     ẏ(t) = ẏ₀ cos ωt − y₀ ω sin ωt

The centre of mass, which is the one mode with ω = 0, is taken out first and drifts freely. Elsewhere ω is
kept above the square root of the smallest float: sin(ωt)/ω is then t to rounding, and nearly free particles
need no special case.

Distribution (Finzi et al. 2020, ``SpringDynamics``): m ~ 3 U(0,1) + 0.1, k ~ 5 U(0,1), q₀ ~ 0.4 N(0,1),
p₀ ~ 0.6 N(0,1) minus its mean *over the systems* drawn together (5000 of them), not over the particles. So
the total momentum of a system is not zero (rms 0.6·√N = 1.47 per coordinate): the published data drift, and
so do these.

Shape letters: B batch, N particles, d space dimension, T times.
References: Finzi, Stanton, Izmailov, Wilson, "Generalizing Convolutional Neural Networks for Equivariance
to Lie Groups on Arbitrary Continuous Data", ICML 2020; Hutchinson et al., "LieTransformer", ICML 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.state import Particles, PhaseState
from lie_sim.systems.base import System, register_system

SAMPLING_BLOCK = 5000
"""Systems drawn together by the reference; the mean momentum of each block is zero."""

_CHUNK = 100
"""Systems solved together: the temporaries (25 MB for 6 particles, 500 times) stay small enough for reuse."""


@register_system
@dataclass(frozen=True)
class Springs(System):
    """Every pair of particles joined by a spring of strength ``k_i k_j``; attributes hold ``k``.

    Args:
        num_particles: N.
        dim: space dimension d.

    Example:
        >>> system = Springs(num_particles=6, dim=2)
        >>> state, particles = system.sample(3, generator=torch.Generator().manual_seed(0))
        >>> q, p = system.trajectory(state, particles, torch.linspace(0.0, 5.0, 11, dtype=torch.float64))
        >>> q.shape
        torch.Size([3, 11, 6, 2])
        >>> energy = [system.energy(PhaseState(q[:, k], p[:, k]), particles) for k in (0, 10)]
        >>> torch.allclose(*energy, rtol=1e-12)
        True
    """

    name: ClassVar[str] = "springs"
    accuracy: ClassVar[float] = 1e-12
    attribute_names: ClassVar[tuple[str, ...]] = ("k",)

    def default_times(self) -> Float[Tensor, " T"]:
        """500 points from 0 to 5, as in the reference: dt = 5/499."""
        return torch.linspace(0.0, 5.0, 500, dtype=torch.float64)

    def potential(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """½ Σ_ij k_i k_j |q_i − q_j|² of each system, shape (B,)."""
        k = spring_constants(particles)
        separation = (q[:, :, None] - q[:, None, :]).square().sum(-1)
        return 0.5 * torch.einsum("bi,bij,bj->b", k, separation, k)

    def force(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B N d"]:
        """−2 k_i (K q_i − Σ_j k_j q_j), shape (B, N, d)."""
        k = spring_constants(particles)[..., None]
        return -2 * k * (k.sum(1, keepdim=True) * q - (k * q).sum(1, keepdim=True))

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw from the benchmark's distribution, float64.

        Systems are drawn in blocks of 5000, so that the first n systems of a seed are the same whatever the
        number asked for: datasets of growing size are nested.
        """
        if num_systems < 1:
            raise ValueError(f"num_systems must be at least 1, got {num_systems}")
        blocks = [self._sample_block(generator) for _ in range(math.ceil(num_systems / SAMPLING_BLOCK))]
        masses, k, q, p = (torch.cat(parts)[:num_systems] for parts in zip(*blocks, strict=True))
        return PhaseState(q=q, p=p), Particles(masses=masses, attributes=k[..., None])

    def _sample_block(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shape = (SAMPLING_BLOCK, self.num_particles)
        options = {"generator": generator, "dtype": torch.float64, "device": generator.device}
        masses = 3 * torch.rand(shape, **options) + 0.1  # type: ignore[call-overload]
        k = 5 * torch.rand(shape, **options)  # type: ignore[call-overload]
        q = 0.4 * torch.randn((*shape, self.dim), **options)  # type: ignore[call-overload]
        p = 0.6 * torch.randn((*shape, self.dim), **options)  # type: ignore[call-overload]
        return masses, k, q, p - p.mean(0, keepdim=True)

    def trajectory(
        self, state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
    ) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
        """Exact positions and momenta at any times, each (B, T, N, d).

        Args:
            state: positions and momenta at time 0; float64 for the full accuracy.
            particles: masses (B, N) and spring constants in ``attributes[..., 0]``.
            times: shape (T,), in any order, spacing and sign.
        """
        shape = (state.q.shape[0], len(times), *state.q.shape[1:])
        q, p = state.q.new_empty(shape), state.p.new_empty(shape)
        for start in range(0, shape[0], _CHUNK):
            part = slice(start, start + _CHUNK)
            q[part], p[part] = _solve(state.q[part], state.p[part], particles[part], times)
        return q, p


def spring_constants(particles: Particles) -> Float[Tensor, "B N"]:
    """The spring constants k, shape (B, N), of particles made by :class:`Springs`."""
    if particles.attributes is None or particles.attributes.shape[-1] < 1:
        raise ValueError("springs need particles.attributes of shape (B, N, 1) holding k; there are none")
    return particles.attributes[..., 0]


def normal_modes(particles: Particles) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N N"]]:
    """Squared frequencies ω², ascending, the first exactly 0; and the mass-weighted modes U in columns."""
    k, root_mass = spring_constants(particles), particles.masses.sqrt()
    stiffness = 2 * (torch.diag_embed(k * k.sum(1, keepdim=True)) - k[:, :, None] * k[:, None, :])
    omega_squared, modes = torch.linalg.eigh(stiffness / (root_mass[:, :, None] * root_mass[:, None, :]))
    omega_squared = omega_squared.clamp(min=0.0)
    omega_squared[:, 0] = 0.0
    return omega_squared, modes


def _solve(q0: Tensor, p0: Tensor, particles: Particles, times: Tensor) -> tuple[Tensor, Tensor]:
    mass = particles.masses[..., None]
    total_mass = mass.sum(1, keepdim=True)
    centre, drift = (mass * q0).sum(1, keepdim=True) / total_mass, p0.sum(1, keepdim=True) / total_mass
    omega_squared, modes = normal_modes(particles)
    y0 = modes.mT @ (mass.sqrt() * (q0 - centre))  # (B, N modes, d)
    w0 = modes.mT @ ((p0 - mass * drift) / mass.sqrt())
    omega = omega_squared.sqrt().clamp(min=torch.finfo(q0.dtype).tiny ** 0.5)[..., None]
    cosine = torch.cos(omega * times)[..., None]  # (B, N modes, T, 1)
    sine_over_omega = (torch.sin(omega * times) / omega)[..., None]
    y = y0[:, :, None] * cosine + w0[:, :, None] * sine_over_omega
    w = w0[:, :, None] * cosine - omega_squared[..., None, None] * y0[:, :, None] * sine_over_omega
    q = _from_modes(modes, y) / mass.sqrt()[:, None] + centre[:, None] + times[:, None, None] * drift[:, None]
    p = _from_modes(modes, w) * mass.sqrt()[:, None] + (mass * drift)[:, None]
    return q, p


def _from_modes(modes: Float[Tensor, "B N N"], y: Float[Tensor, "B N T d"]) -> Float[Tensor, "B T N d"]:
    return (modes @ y.flatten(2)).reshape(y.shape).transpose(1, 2)
