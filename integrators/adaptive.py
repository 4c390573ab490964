"""Leapfrog with steps that adapt to the motion and remain time-reversible: integrating step-density control.

    ρ_{n+½} = ρ_n + ε G_n / 2,    h = ε / ρ_{n+½},    leapfrog over h,    ρ_{n+1} = ρ_{n+½} + ε G_{n+1} / 2

The density ρ of steps is integrated along with the motion, from ρ = 1, so that the first step is about ε, the
``step_size``; G (:mod:`lie_sim.integrators.step_density`) makes it follow the forces. As G changes its sign with the
momenta, the map of (q, p, ρ) is explicit and symmetric: the energy does not drift, as it does where each step is
chosen from an estimate of its error. The map is not symplectic.

Shape letters: B batch, N particles, d space dimension, T times.
Reference: Hairer, Söderlind, "Explicit, time reversible, adaptive step size control",
SIAM J. Sci. Comput. 26 (2005) 1838.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.errors import StepSizeError
from lie_sim.integrators.dynamics import SeparableDynamics, separable_dynamics
from lie_sim.integrators.hermite import DenseOutput, node
from lie_sim.integrators.method import Memory, Method, StepSize, broadcast_step
from lie_sim.integrators.schedule import checked_lengths, checked_step
from lie_sim.integrators.step_density import Control, StepDensity

STEPS_PER_LOOK = 32
"""Steps between two looks at whether all systems have arrived."""


@dataclass(frozen=True)
class AdaptiveLeapfrog(Method):
    """Leapfrog (kick-drift-kick) with time-reversible steps, of each system its own.

    ``advance`` does steps of equal *fictive* length ε = ``step_size``; the physical time that each system has reached
    is ``memory["time"]``, shape (B,). States at given times come from :meth:`advance_until` and :meth:`integrate_to`.

    Args:
        exponent: κ; the step goes as |acceleration|^(−κ).
        max_growth: bound of the step, in units of the first one, where the forces nearly vanish.
        control: G of a system with state (q, p), shape (B,), instead of the default; reversible only if it changes its
            sign with p. For a step ∝ σ(q), G = −(∂σ/∂q)·v/σ.
        max_steps: steps after which :meth:`advance_until` gives up.

    Example:
        >>> class Kepler:
        ...     def force(self, q): return -q / q.square().sum(-1, keepdim=True) ** 1.5
        ...     def velocity(self, p): return p
        >>> method = AdaptiveLeapfrog()
        >>> q, p = (torch.tensor([[x]], dtype=torch.float64) for x in ([0.4, 0.0], [0.0, 2.0]))  # e = 0.6
        >>> q, p, memory = method.advance(Kepler(), q, p, step_size=0.01, num_steps=100)
        >>> bool(memory["time"][0] > 1.5), bool((p.square().sum() / 2 - 1 / q.norm() + 0.5).abs() < 1e-3)
        (True, True)
    """

    remembers = ("density", "time", "force", "rate", "floor")

    exponent: float = 0.75
    max_growth: float = 100.0
    control: Control | None = None
    max_steps: int = 1_000_000
    name: str = field(default="adaptive_leapfrog", init=False)
    order: int = field(default=2, init=False)
    citation: str = field(default="Hairer, Söderlind, SIAM J. Sci. Comput. 26 (2005) 1838", init=False)
    symplectic: bool = field(default=False, init=False)
    reversible: bool = field(default=True, init=False)
    adaptive: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.exponent <= 2:
            raise ValueError(f"exponent must be above 0 and at most 2, got {self.exponent}")
        if not self.max_growth > 1:
            raise ValueError(f"max_growth must be above 1, got {self.max_growth}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")

    def dynamics(self, candidate: Any) -> SeparableDynamics:
        """Anything with ``force(q)``, differentiable by autograd, and ``velocity(p)``."""
        return separable_dynamics(candidate)

    @property
    def _density(self) -> StepDensity:
        return StepDensity(self.exponent, self.max_growth, self.control)

    def advance(
        self,
        dynamics: SeparableDynamics,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps of fictive length ε; the memory holds density, time, force and G.

        Raises:
            StepSizeError: the density of steps of a system is no longer positive.
        """
        epsilon = _per_system(step_size, q)
        if num_steps < 1:
            return q, p, memory or {}
        memory = memory or self._density.start(dynamics, q, p)
        lowest = memory["density"]
        for _ in range(num_steps):
            q, p, memory, density = self._step(dynamics, q, p, epsilon, memory)
            lowest = torch.minimum(lowest, density)
        _check(lowest)
        return q, p, memory

    def advance_until(
        self,
        dynamics: SeparableDynamics,
        q: Tensor,
        p: Tensor,
        *,
        times: Float[Tensor, " T"] | Float[Tensor, "T B"],
        step_size: StepSize,
        memory: Memory | None = None,
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Memory]]:
        """The states at given physical times, interpolated between steps.

        Args:
            dynamics: what :meth:`dynamics` returned.
            q: positions, shape (B, N, d), at ``memory["time"]`` (0 at the start of a run).
            p: momenta, shape (B, N, d).
            times: in any order, for all systems or of each; none before the present one.
            step_size: ε; negative runs backwards.
            memory: as returned by the call before.

        Returns:
            (q, p) at the times, each (T, B, N, d), and (q, p, memory) after the last step of each system that
            does not pass its last time, from which the run can go on.

        Raises:
            StepSizeError: a density is not positive, or ``max_steps`` were too few.
        """
        epsilon = _per_system(step_size, q)
        memory = memory or self._density.start(dynamics, q, p)
        times = (times if times.ndim == 2 else times[:, None]).to(memory["time"]).expand(-1, len(q))
        last = _last(times.detach(), epsilon.detach().sign(), memory["time"].detach())
        found = (q.new_zeros(len(times), *q.shape), p.new_zeros(len(times), *p.shape))
        for _ in range(0, self.max_steps, STEPS_PER_LOOK):
            path, (q, p, memory) = self._stretch(dynamics, q, p, epsilon, memory, last)
            found = _filled(found, path, times)
            if bool(path.covers(last).all()):
                return found, (q, p, memory)
        raise StepSizeError(
            f"{self.name}: not all systems reached their last time in {self.max_steps} steps; enlarge step_size "
            "(it is the first step, and the others follow the force) or max_steps"
        )

    def integrate_to(
        self,
        dynamics: SeparableDynamics,
        q: Tensor,
        p: Tensor,
        t: Float[Tensor, " T"] | Float[Tensor, "T B"],
        step_size: StepSize | None,
    ) -> tuple[Tensor, Tensor]:
        """(q, p) at the times t, each (T, B, N, d); those given are at ``t[0]``.

        Raises:
            ValueError: the times are not strictly monotonic, or there is no positive ``step_size``.
            StepSizeError: as in :meth:`advance_until`.
        """
        if step_size is None:
            raise ValueError(
                f'{self.name} needs the length of its first step: options={{"step_size": h}}; a small part of the '
                "time in which the force changes"
            )
        checked_step(step_size)
        lengths = checked_lengths(t)
        if not len(lengths):
            return q[None], p[None]
        epsilon = _per_system(step_size, q) * lengths.sum(0).sign().to(q)
        later, _ = self.advance_until(dynamics, q, p, times=(t - t[0])[1:], step_size=epsilon)
        return torch.cat([q[None], later[0]]), torch.cat([p[None], later[1]])

    def _stretch(
        self, dynamics: SeparableDynamics, q: Tensor, p: Tensor, epsilon: Tensor, memory: Memory, last: Tensor
    ) -> tuple[DenseOutput, tuple[Tensor, Tensor, Memory]]:
        """Some steps and their path; a system stays before the step that would pass its last time."""
        times, nodes = [memory["time"]], [node(dynamics, q, p, memory["force"])]
        direction, lowest = epsilon.detach().sign(), memory["density"]
        for _ in range(min(STEPS_PER_LOOK, self.max_steps)):
            new_q, new_p, new_memory, density = self._step(dynamics, q, p, epsilon, memory)
            times.append(new_memory["time"])
            nodes.append(node(dynamics, new_q, new_p, new_memory["force"]))
            goes = new_memory["time"].detach() * direction <= last * direction
            q, p = _where(goes, new_q, q), _where(goes, new_p, p)
            memory = {key: _where(goes, value, memory[key]) for key, value in new_memory.items()}
            lowest = torch.minimum(lowest, density)
        _check(lowest)
        path = DenseOutput(torch.stack(times), *(torch.stack(column) for column in zip(*nodes, strict=True)))
        return path, (q, p, memory)

    def _step(
        self, dynamics: SeparableDynamics, q: Tensor, p: Tensor, epsilon: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Memory, Tensor]:
        """One step; also the density in its middle."""
        density = memory["density"] + epsilon / 2 * memory["rate"]
        h = epsilon / density
        half = (h / 2).reshape(-1, *(1,) * (q.ndim - 1))
        p = torch.addcmul(p, memory["force"], half)
        q = torch.addcmul(q, dynamics.velocity(p), 2 * half)
        p, found = self._density.kicked(dynamics, q, p, half, memory)
        ends = {"density": density + epsilon / 2 * found["rate"], "time": memory["time"] + h}
        return q, p, ends | found, density


def _per_system(step_size: StepSize, q: Tensor) -> Float[Tensor, " B"]:
    h = broadcast_step(step_size, q)
    return h.flatten().expand(len(q)) if isinstance(h, Tensor) else q.new_full((len(q),), h)


def _last(times: Tensor, direction: Tensor, now: Tensor) -> Float[Tensor, " B"]:
    """The time at which each system is done."""
    if bool((direction == 0).any()) or bool((times * direction < now * direction).any()):
        raise ValueError(
            "every step_size must lead from the present time of its system to the times asked for"
        )
    return (times * direction).amax(0) * direction


def _filled(
    found: tuple[Tensor, Tensor], path: DenseOutput, times: Float[Tensor, "T B"]
) -> tuple[Tensor, Tensor]:
    """The states found so far, with those at the times that a path covers."""
    covered = path.covers(times)
    rows = covered.any(1).nonzero().flatten()
    if not len(rows):
        return found
    q, p = (
        x.index_copy(0, rows, _where(covered[rows], new, x[rows]))
        for x, new in zip(found, path.at(times[rows]), strict=True)
    )
    return q, p


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.reshape(*chosen.shape, *(1,) * (new.ndim - chosen.ndim)), new, old)


def _check(density: Tensor) -> None:
    """Refuse a density that is not positive: the steps that followed from it are meaningless."""
    bad = ~(density > 0)
    if bool(bad.any()):
        which = bad.nonzero().flatten().tolist()
        raise StepSizeError(
            f"adaptive_leapfrog: the density of steps is not positive in {len(which)} of {len(density)} systems (first "
            f"batch indices {which[:5]}): the forces change too much in one step or vanish; use a smaller step_size, a "
            "smaller max_growth, or a control of your own"
        )


ADAPTIVE_METHODS = (AdaptiveLeapfrog(),)
