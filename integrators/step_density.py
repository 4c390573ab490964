"""How dense the steps of a run should be: the rate G at which the density changes along the motion.

    G = (κ/2) (dS/dt) / (S + S_min),      S = Σ_i |a_i|²,      a = v(F),      dS/dt = (∂S/∂q)·v(p)

A density that grows by G per unit of fictive time follows (S + S_min)^{κ/2}, hence the step |a|^{−κ}. G changes its
sign with the momenta, which keeps the steps time-reversible. No constant of the system is needed: where the force
falls as r^{−n}, the time of free fall is |a|^{−κ} with κ = (n + 1)/(2n), 3/4 for gravity and Coulomb forces,
towards 1/2 for hard repulsion. S_min bounds the step where the forces nearly vanish.

dS/dt takes one reverse pass through the force, about the cost of one more force. a = v(F) is the acceleration
where the kinetic energy is quadratic, elsewhere just a monitor.

Shape letters: B batch, N particles, d space dimension.
Reference: Hairer, Söderlind, SIAM J. Sci. Comput. 26 (2005) 1838.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics
from lie_sim.integrators.leaves import leaves_behind
from lie_sim.integrators.method import Memory

Control = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StepDensity:
    """G of the default control, or of the user's own, together with the force that it needs anyway.

    Args:
        exponent: κ.
        max_growth: bound of the step in units of the first one; makes S_min of S at the start.
        control: (q, p) → G, shape (B,), used instead.
    """

    exponent: float
    max_growth: float
    control: Control | None = None

    def start(self, dynamics: SeparableDynamics, q: Tensor, p: Tensor) -> Memory:
        """Density 1, time 0, and what a step needs of its beginning: force and G (and S_min)."""
        memory = {"density": q.new_ones(len(q)), "time": q.new_zeros(len(q), dtype=torch.float64)}
        if self.control is not None:
            force = dynamics.force(q)
            return memory | {"force": force, "rate": self.control(q, p)}
        force, square, slope = _monitored(dynamics, q)
        memory["floor"] = square.detach() * self.max_growth ** (-2 / self.exponent)
        rate = self._rate(square, slope, dynamics.velocity(p), memory["floor"])
        return memory | {"force": force, "rate": rate}

    def kicked(
        self, dynamics: SeparableDynamics, q: Tensor, p: Tensor, half: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The momenta after the second half kick, F h/2, and force and G there.

        Raises:
            TypeError: the force changes with q, but not for autograd.
        """
        if self.control is not None:
            force = dynamics.force(q)
            p = torch.addcmul(p, force, half)
            return p, {"force": force, "rate": self.control(q, p)}
        force, square, slope = _monitored(dynamics, q)
        if slope is None and not torch.equal(force, memory["force"]):
            raise TypeError(
                "the default control of the steps differentiates the force, which autograd takes for a constant; "
                "write it with torch operations that record gradients, or give control=G(q, p)"
            )
        p = torch.addcmul(p, force, half)
        rate = self._rate(square, slope, dynamics.velocity(p), memory["floor"])
        return p, {"force": force, "rate": rate, "floor": memory["floor"]}

    def _rate(
        self, square: Tensor, slope: Tensor | None, velocity: Tensor, floor: Tensor
    ) -> Float[Tensor, " B"]:
        if slope is None:
            return torch.zeros_like(square)
        change, total = (slope * velocity).flatten(1).sum(1), square + floor
        return self.exponent / 2 * change / torch.where(total > 0, total, 1.0)


def _monitored(dynamics: SeparableDynamics, q: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Force, S, and ∂S/∂q (None if the force is constant), differentiable if gradients are recorded."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = q.view_as(q) if keep and q.requires_grad else q.detach().requires_grad_(True)
        force = dynamics.force(x)
        square = dynamics.velocity(force).square().flatten(1).sum(1)
        slope = None
        if square.requires_grad:
            (slope,) = torch.autograd.grad(square.sum(), x, create_graph=keep, materialize_grads=True)
    if keep and (q.requires_grad or any(leaf is not x for leaf in leaves_behind([square]))):
        return force, square, slope
    return force.detach(), square.detach(), None if slope is None else slope.detach()
