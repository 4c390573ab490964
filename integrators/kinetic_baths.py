"""Thermostats that act on the kinetic energy alone: they scale all momenta of a system by one factor.

Stochastic velocity rescaling (Bussi, Donadio, Parrinello 2007), with c = e^{−h/τ} and R_i standard normal:

    α² = (√c + √r R_1)² + r Σ_{i=2}^{N_f} R_i²,     r = (1 − c) k_B T / 2K,     sign α = sign(√c + √r R_1)

Nosé–Hoover chain (Martyna, Klein, Tuckerman 1992), deterministic, with positions η_j and velocities w_j of M heat
baths of masses Q_1 = N_f k_B T τ² and Q_j = k_B T τ²:

    dp/dt = F − w_1 p,    dη_j/dt = w_j,    dw_j/dt = G_j − w_{j+1} w_j
    G_1 = (2K/(N_f k_B T) − 1)/τ²,    G_2 = N_f w_1² − 1/τ²,    G_j = w_{j−1}² − 1/τ²

Both keep an energy whose drift tells whether the step is short enough: ``conserved_energy``.

Shape letters: B batch, N particles, d space dimension, M length of the chain.
Reference: Tuckerman, "Statistical Mechanics: Theory and Molecular Simulation", Oxford 2010, chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.coefficients import SPLITTING_METHODS
from lie_sim.integrators.masses import MassiveSystem
from lie_sim.integrators.method import Memory
from lie_sim.integrators.thermostats import Bath, StochasticThermostat, ThermostatMethod
from lie_sim.state import PhaseState

_DRIFTS = {method.name: method.drifts for method in SPLITTING_METHODS}
YOSHIDA_WEIGHTS = {1: (1.0,), 3: _DRIFTS["yoshida4"], 7: _DRIFTS["yoshida6"]}
"""Lengths of the substeps of the chain, by their number; its error is then of order 2, 4 or 6."""


def _check_bath(relaxation_time: float, removed: int) -> None:
    if not 0 < relaxation_time < math.inf:
        raise ValueError(f"relaxation_time must be positive and finite, got {relaxation_time}")
    if removed < 0:
        raise ValueError(f"removed_degrees_of_freedom must be >= 0, got {removed}")


def _energy(dynamics: Any, q: Tensor, p: Tensor) -> Float[Tensor, " B"]:
    if not callable(getattr(dynamics, "energy", None)):
        raise TypeError(f"{type(dynamics).__name__} has no energy(PhaseState), which conserved_energy needs")
    energy: Tensor = dynamics.energy(PhaseState(q=q, p=p))
    return energy


@dataclass(frozen=True)
class CSVR(StochasticThermostat):
    """Canonical sampling by velocity rescaling, in the middle of a leapfrog step (word BACAB).

    It samples the canonical ensemble and disturbs the motion little; total momentum stays zero if it is. A system
    at rest stays at rest until a force moves it. The memory also holds ``heat`` (B,), the energy given by the bath.

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.
        seed: of the noise, 0 to 2⁶⁴ − 1.
        relaxation_time: τ in the unit of time; the kinetic energy forgets as e^{−t/τ}.
        removed_degrees_of_freedom: how many are lost: d if total momentum is conserved (start it at 0), and one
            per constraint.

    Example:
        >>> CSVR(relaxation_time=0.5, removed_degrees_of_freedom=3).scheme
        'BACAB'
    """

    relaxation_time: float = 1.0
    removed_degrees_of_freedom: int = 0
    remembers = ("trajectory", "step", "force", "heat")

    name: str = field(default="csvr", init=False)
    order: int = field(default=2, init=False)
    scheme: str = field(default="BACAB", init=False)
    citation: str = field(
        default="Bussi, Donadio, Parrinello, J. Chem. Phys. 126 (2007) 014101; middle scheme: Zhang et al., "
        "J. Phys. Chem. A 123 (2019) 6056",
        init=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_bath(self.relaxation_time, self.removed_degrees_of_freedom)

    def bath(self, system: MassiveSystem, q: Tensor, h: Tensor, memory: Memory, num_steps: int) -> Bath:
        """One rescaling over the whole step."""
        degrees = system.degrees_of_freedom(q.shape[-1], self.removed_degrees_of_freedom)
        rank = system.free.expand(q.shape).flatten(1).cumsum(1).reshape(q.shape) * system.free
        used = ((rank > 0) & (rank <= degrees[:, None, None])).to(q)
        heat = memory["heat"] if "heat" in memory else q.new_zeros(q.shape[0])
        noise, after = self.noise(q, h, memory, num_steps)
        rate = h.flatten() / self.relaxation_time
        return _Rescaling(system, self.temperature, rate, used, (rank == 1).to(q), noise, heat, after)

    def bath_energy(self, dynamics: Any, q: Tensor, memory: Memory) -> Tensor | float:
        """Minus the energy given by the bath, shape (B,); 0 at the start of a run."""
        return -memory["heat"] if "heat" in memory else 0.0

    def conserved_energy(self, dynamics: Any, q: Tensor, p: Tensor, memory: Memory) -> Float[Tensor, " B"]:
        """H minus the energy given by the bath, shape (B,): conserved but for the error of the step."""
        return _energy(dynamics, q, p) + self.bath_energy(dynamics, q, memory)


class _Rescaling(Bath):
    """p ← α p; ``used`` marks N_f numbers of the noise, ``first`` the one called R_1."""

    def __init__(
        self,
        system: MassiveSystem,
        temperature: float,
        rate: Tensor,
        used: Tensor,
        first: Tensor,
        noise: Iterator[Tensor],
        heat: Tensor,
        after: Memory,
    ) -> None:
        self._system, self._noise, self._heat, self._after = system, noise, heat, after
        self._first, self._others = first, used - first
        self._root_c = torch.exp(-rate / 2)
        self._bath_energy = -torch.expm1(-rate) * temperature
        self._cold = temperature == 0

    def act(self, p: Tensor) -> Tensor:
        twice_kinetic = self._system.twice_kinetic_energy(p)
        factor = self._factor(twice_kinetic)
        self._heat = self._heat + (factor.square() - 1) * twice_kinetic / 2
        return factor[:, None, None] * p

    def _factor(self, twice_kinetic: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        if self._cold:
            return self._root_c.expand(twice_kinetic.shape)
        z, moves = next(self._noise), twice_kinetic > 0
        ratio = torch.where(moves, self._bath_energy / torch.where(moves, twice_kinetic, 1.0), 0.0)
        root = torch.where(
            ratio > 0, torch.where(ratio > 0, ratio, 1.0).sqrt(), 0.0
        )  # finite slope where h = 0
        along = self._root_c + root * (z * self._first).sum((1, 2))
        across = ratio * (z.square() * self._others).sum((1, 2))
        return torch.copysign((along.square() + across).sqrt(), along)

    def memory(self) -> Memory:
        return self._after | {"heat": self._heat}


@dataclass(frozen=True)
class NoseHooverChain(ThermostatMethod):
    """Deterministic, reversible canonical sampling by a chain of heat baths around a leapfrog step (word NBABN).

    The chain makes small and stiff systems ergodic that a single bath does not. Its state is in the memory,
    ``chain_position`` and ``chain_velocity``, each (B, M); it starts at 0.

    Args:
        temperature: k_B T in the unit of energy of the system, positive.
        relaxation_time: τ in the unit of time, about the period of the slow vibrations, far above the step.
        chain_length: M, at least 1; 3 or more to be ergodic.
        yoshida_suzuki: 1, 3 or 7 substeps of a contact with the chain, weighted for order 2, 4 or 6.
        substeps: how often a contact is cut in equal parts, each with these weights.
        removed_degrees_of_freedom: how many are lost: d if total momentum is conserved (start it at 0), and one
            per constraint.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> from lie_sim.integrators import SystemDynamics, advance
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> dynamics, method = SystemDynamics(system, particles), NoseHooverChain(temperature=0.5)
        >>> q, p, memory = advance(dynamics, state.q, state.p, step_size=0.01, num_steps=50, method=method)
        >>> drift = method.conserved_energy(dynamics, q, p, memory) - dynamics.energy(state)
        >>> memory["chain_velocity"].shape, bool((drift.abs() < 0.02).all())
        (torch.Size([2, 3]), True)
    """

    relaxation_time: float = 1.0
    chain_length: int = 3
    yoshida_suzuki: int = 3
    substeps: int = 1
    removed_degrees_of_freedom: int = 0
    remembers = ("force", "chain_position", "chain_velocity")

    name: str = field(default="nose_hoover_chain", init=False)
    order: int = field(default=2, init=False)
    scheme: str = field(default="NBABN", init=False)
    symplectic: bool = field(default=False, init=False)
    reversible: bool = field(default=True, init=False)
    citation: str = field(
        default="Martyna, Klein, Tuckerman, J. Chem. Phys. 97 (1992) 2635; Martyna et al., Mol. Phys. 87 (1996) 1117",
        init=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_bath(self.relaxation_time, self.removed_degrees_of_freedom)
        if self.temperature == 0:
            raise ValueError("nose_hoover_chain needs a temperature > 0: its heat baths have masses k_B T τ²")
        if self.chain_length < 1 or self.substeps < 1:
            raise ValueError(
                f"chain_length and substeps must be >= 1, got {self.chain_length} and {self.substeps}"
            )
        if self.yoshida_suzuki not in YOSHIDA_WEIGHTS:
            raise ValueError(f"yoshida_suzuki must be 1, 3 or 7, got {self.yoshida_suzuki}")

    def bath(self, system: MassiveSystem, q: Tensor, h: Tensor, memory: Memory, num_steps: int) -> Bath:
        """The chain, met over h/2 before and after the leapfrog step."""
        degrees = system.degrees_of_freedom(q.shape[-1], self.removed_degrees_of_freedom)
        rest = q.new_zeros(q.shape[0], self.chain_length)
        position, velocity = (memory.get(name, rest) for name in ("chain_position", "chain_velocity"))
        weights = YOSHIDA_WEIGHTS[self.yoshida_suzuki] * self.substeps
        lengths = [weight * h.flatten() / (self.contacts * self.substeps) for weight in weights]
        return _Chain(system, self.temperature, self.relaxation_time, degrees, position, velocity, lengths)

    def conserved_energy(self, dynamics: Any, q: Tensor, p: Tensor, memory: Memory) -> Float[Tensor, " B"]:
        """H plus the energy of the chain, shape (B,)."""
        return _energy(dynamics, q, p) + self.bath_energy(dynamics, q, memory)

    def bath_energy(self, dynamics: Any, q: Tensor, memory: Memory) -> Tensor | float:
        """½ Σ Q_j w_j² + k_B T (N_f η_1 + Σ_{j≥2} η_j) of each system, shape (B,); 0 at the start of a run."""
        if "chain_position" not in memory:
            return 0.0
        position, velocity = memory["chain_position"], memory["chain_velocity"]
        degrees = MassiveSystem(self.dynamics(dynamics), q).degrees_of_freedom(
            q.shape[-1], self.removed_degrees_of_freedom
        )
        terms = (velocity * self.relaxation_time).square() / 2 + position
        return self.temperature * (degrees * terms[:, 0] + terms[:, 1:].sum(1))


class _Chain(Bath):
    """The flow of the chain and of the scale of p, split symmetrically from the far end of the chain and back."""

    def __init__(
        self,
        system: MassiveSystem,
        temperature: float,
        relaxation_time: float,
        degrees: Float[Tensor, " B"],
        position: Float[Tensor, "B M"],
        velocity: Float[Tensor, "B M"],
        lengths: list[Tensor],
    ) -> None:
        self._system, self._substeps = system, [(length, length / 2, -length / 4) for length in lengths]
        self._degrees, self._target = degrees, degrees * temperature
        self._square_rate = 1 / relaxation_time**2
        self._position, self._velocity = position, list(velocity.unbind(1))

    def act(self, p: Tensor) -> Tensor:
        excess, factor = self._system.twice_kinetic_energy(p) / self._target, torch.ones_like(self._target)
        inwards, outwards = range(len(self._velocity) - 1, -1, -1), range(len(self._velocity))
        for length, half, damped in self._substeps:
            self._accelerate(inwards, excess, half, damped)
            scale = torch.exp(-self._velocity[0] * length)
            excess, factor = excess * scale.square(), factor * scale
            self._position = torch.addcmul(
                self._position, torch.stack(self._velocity, 1), length.reshape(-1, 1)
            )
            self._accelerate(outwards, excess, half, damped)
        return factor[:, None, None] * p

    def _accelerate(self, order: range, excess: Float[Tensor, " B"], half: Tensor, damped: Tensor) -> None:
        """Half a substep of the velocities, one after the other; w_{j+1} damps w_j."""
        w = self._velocity
        for j in order:
            if j + 1 == len(w):
                w[j] = torch.addcmul(w[j], self._force(j, excess), half)
            else:
                damping = torch.exp(w[j + 1] * damped)
                w[j] = torch.addcmul(w[j] * damping, self._force(j, excess), half) * damping

    def _force(self, j: int, excess: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """G_j, given the kinetic energy in units of its mean."""
        if j == 0:
            return (excess - 1) * self._square_rate
        square = self._velocity[j - 1].square()
        return (self._degrees * square if j == 1 else square) - self._square_rate

    def memory(self) -> Memory:
        return {"chain_position": self._position, "chain_velocity": torch.stack(self._velocity, 1)}


RESCALING_METHODS = (CSVR(), NoseHooverChain())
