"""Trajectories of separable systems without a closed form, integrated until refinement changes nothing.

One step of length h is a symmetric composition of Störmer–Verlet steps of lengths γ_i h (Kahan & Li, order 8,
17 stages):

    Ψ_h = Φ_{γ₁h} ∘ … ∘ Φ_{γ₁₇h},      Φ_h : q += h/2 · p/m,   p += h F(q),   q += h/2 · p/m

Each interval between two output times is cut into n steps. n is doubled until a system's whole trajectory
moves by less than (2⁸ − 1) × tolerance, so that the finer of the two has an error of about the tolerance;
only the systems that still move are integrated again.

Shape letters: B batch, N particles, d space dimension, T times.
References: Kahan, Li, "Composition constants for raising the orders of unconventional schemes for ordinary
differential equations", Math. Comp. 66 (1997) 1089; Hairer, Lubich, Wanner, "Geometric Numerical
Integration", Springer 2006, §V.3.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.errors import LieSimError
from lie_sim.state import Particles, PhaseState

ForceFunction = Callable[[Float[Tensor, "B N d"], Particles], Float[Tensor, "B N d"]]
DrivenForce = Callable[[Float[Tensor, "B N d"], Particles, Float[Tensor, " B"]], Float[Tensor, "B N d"]]

ORDER = 8
_HALF = (
    0.13020248308889008087881763,
    0.56116298177510838456196441,
    -0.38947496264484728640807860,
    0.15884190655515560089621075,
    -0.39590389413323757733623154,
    0.18453964097831570709183254,
    0.25837438768632204729397911,
    0.29501172360931029887096624,
)
KAHAN_LI_8 = (*_HALF, 1.0 - 2.0 * sum(_HALF), *reversed(_HALF))
_DRIFTS = tuple((a + b) / 2 for a, b in zip((0.0, *KAHAN_LI_8), (*KAHAN_LI_8, 0.0), strict=True))


def solve(
    force: ForceFunction,
    state: PhaseState,
    particles: Particles,
    times: Float[Tensor, " T"],
    *,
    tolerance: float = 1e-12,
    max_substeps: int = 256,
) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
    """Positions and momenta at ``times``, each (B, T, N, d), the given state being the one at time 0.

    Args:
        force: −∂V/∂q.
        state: float64 for the full accuracy.
        particles: what the particles are.
        times: monotonic, shape (T,); the intervals may differ.
        tolerance: aimed error, relative to the largest coordinate and momentum of the system.
        max_substeps: give up beyond this many steps in an interval.

    Raises:
        lie_sim.errors.LieSimError: some system still changes at ``max_substeps``.
    """
    return solve_driven(
        _autonomous(force), state, particles, times, tolerance=tolerance, max_substeps=max_substeps
    )


def solve_driven(
    force: DrivenForce,
    state: PhaseState,
    particles: Particles,
    times: Float[Tensor, " T"],
    *,
    tolerance: float = 1e-12,
    max_substeps: int = 256,
) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
    """:func:`solve` with a force that depends on time: ``times`` are those after the time of the state.

    The steps are the same in extended phase space, where time is moved together with the positions.
    """
    q, p = _integrate(force, state, particles, times, substeps=1)
    moving = torch.arange(len(q), device=q.device)
    substeps = 2
    while len(moving):
        if substeps > max_substeps:
            raise LieSimError(
                f"{len(moving)} of {len(q)} systems have not converged to {tolerance:g} with {max_substeps} "
                "steps per interval: an encounter is too close, or the motion is chaotic over this time; "
                "use a larger softening, shorter times, or a larger tolerance"
            )
        begun = None if state.t is None else state.t[moving]
        part = PhaseState(q=state.q[moving], p=state.p[moving], t=begun)
        fine = _integrate(force, part, particles[moving], times, substeps=substeps)
        change = torch.maximum(_relative_change(fine[0], q[moving]), _relative_change(fine[1], p[moving]))
        q[moving], p[moving] = fine
        moving = moving[~(change <= (2**ORDER - 1) * tolerance)]
        substeps *= 2
    return q, p


def _autonomous(force: ForceFunction) -> DrivenForce:
    return lambda q, particles, t: force(q, particles)


def _relative_change(x: Float[Tensor, "B T N d"], y: Float[Tensor, "B T N d"]) -> Float[Tensor, " B"]:
    scale = x.flatten(1).abs().amax(1)
    return (x - y).flatten(1).abs().amax(1) / torch.where(scale > 0, scale, 1.0)


def _integrate(
    force: DrivenForce, state: PhaseState, particles: Particles, times: Tensor, *, substeps: int
) -> tuple[Tensor, Tensor]:
    q, p = state.q.clone(), state.p.clone()
    inverse_mass = 1 / particles.masses[..., None]
    begun = q.new_zeros(len(q)) if state.t is None else state.t.to(q.device, torch.float64)
    qs, ps = [], []
    previous = 0.0
    for time in times.tolist():
        if time != previous:
            h = (time - previous) / substeps
            for step in range(substeps):
                q, p = _step(force, q, p, particles, inverse_mass, h, begun + (previous + step * h))
        qs.append(q)
        ps.append(p)
        previous = time
    return torch.stack(qs, 1), torch.stack(ps, 1)


def _step(
    force: DrivenForce,
    q: Tensor,
    p: Tensor,
    particles: Particles,
    inverse_mass: Tensor,
    h: float,
    t: Tensor,
) -> tuple[Tensor, Tensor]:
    passed = _DRIFTS[0]
    q = torch.addcmul(q, p, inverse_mass, value=_DRIFTS[0] * h)
    for kick, drift in zip(KAHAN_LI_8, _DRIFTS[1:], strict=True):
        p = p + kick * h * force(q, particles, t + passed * h)
        passed += drift
        q = torch.addcmul(q, p, inverse_mass, value=drift * h)
    return q, p
