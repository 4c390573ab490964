"""Thermostats: motion in contact with a heat bath, written as words over three letters.

    A   q ← q + τ v(p)                                                        drift
    B   p ← p + τ F(q)                                                        kick
    O   p ← e^{−γτ} p + √((1 − e^{−2γτ}) k_B T m) ξ,    ξ normal              friction and noise, solved exactly

In a word such as BAOAB a letter that occurs n times takes τ = h/n each time, so that every letter covers one step.
The force is kept until q changes: one force per step. The noise is a function of seed, trajectory and step alone
(:mod:`lie_sim.integrators.noise`): a run does not depend on how it is cut into calls, batches or processes, not by
a bit. Gradients flow through the steps at fixed noise.

Memory: ``trajectory`` (B,), the names that key the noise (0 … B−1 unless given at the start, as the option of that
name: give every batch of a larger set its own); ``step`` (B,), steps done, those of length 0 not counted; ``force``
where it is known at q.

Shape letters: B batch, N particles, d space dimension.
Reference: Leimkuhler, Matthews, "Molecular Dynamics", Springer 2015, chapter 7.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics, check_rate
from lie_sim.integrators.masses import MassiveSystem, massive_dynamics
from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step
from lie_sim.integrators.noise import MAX_TRAJECTORY, check_seed, keyed_noise


class Bath:
    """What acts on the momenta for one call: constants of the step, and what is remembered."""

    def act(self, p: Tensor) -> Tensor:
        """The momenta after one contact."""
        raise NotImplementedError

    def memory(self) -> Memory:
        """What the next call needs."""
        raise NotImplementedError


@dataclass(frozen=True)
class ThermostatMethod(Method):
    """A word of drifts A, kicks B and contacts with a heat bath (any other letter).

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.

    Raises:
        ValueError: an option is out of range.
    """

    temperature: float = 1.0
    scheme: str = field(default="", init=False)
    remembers: ClassVar[tuple[str, ...] | None] = ("force",)

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                "temperature is k_B T in the unit of energy of the system and must be finite and >= 0; "
                f"got {self.temperature}"
            )

    @property
    def contacts(self) -> int:
        """How often a step meets the bath."""
        return sum(letter not in "AB" for letter in self.scheme)

    def dynamics(self, candidate: Any) -> SeparableDynamics:
        """Anything with ``force(q)``, ``velocity(p)`` and masses; see :func:`massive_dynamics`."""
        return massive_dynamics(candidate)

    @abstractmethod
    def bath(self, system: MassiveSystem, q: Tensor, h: Tensor, memory: Memory, num_steps: int) -> Bath:
        """The bath for ``num_steps`` steps of length h, shape () or (B, 1, 1)."""

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
        """Do ``num_steps`` steps; any division of a run into calls gives the same bits."""
        h, system = broadcast_step(step_size, q), MassiveSystem(dynamics, q)
        bath = self.bath(
            system, q, torch.as_tensor(h, dtype=q.dtype, device=q.device), memory or {}, num_steps
        )
        drift, kick = (h / self.scheme.count(letter) for letter in "AB")
        force, checked = (memory or {}).get("force"), "force" in (memory or {})
        for letter in self.scheme * num_steps:
            if letter == "A":
                q, force = add_scaled(q, system.velocity(p), drift), None
            elif letter == "B":
                force = system.force(q) if force is None else force
                if not checked:
                    check_rate("force(q)", force, q)
                    checked = True
                p = add_scaled(p, force, kick)
            else:
                p = bath.act(p)
        return q, p, bath.memory() | ({} if force is None else {"force": force})


@dataclass(frozen=True)
class StochasticThermostat(ThermostatMethod):
    """A thermostat that draws noise.

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.
        seed: of the noise, 0 to 2⁶⁴ − 1.
    """

    seed: int = 0
    remembers: ClassVar[tuple[str, ...] | None] = ("trajectory", "step", "force")

    symplectic: bool = field(default=False, init=False)
    reversible: bool = field(default=False, init=False)
    stochastic: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)

    def named_start(self, trajectory: Tensor | None, q: Tensor) -> Memory | None:
        """The memory at the start of a run whose noise is keyed by these names."""
        if trajectory is None:
            return None
        _check_trajectory(trajectory, q)
        return {"trajectory": trajectory.to(q.device)}

    def noise(self, q: Tensor, h: Tensor, memory: Memory, num_steps: int) -> tuple[Iterator[Tensor], Memory]:
        """The numbers for every contact of the coming steps, and the memory after them."""
        if h.device.type == "cpu" and bool((h < 0).any()):
            raise ValueError(f"{self.name} draws noise and cannot run backwards; step_size must be >= 0")
        trajectory = memory.get("trajectory")
        trajectory = torch.arange(q.shape[0], device=q.device) if trajectory is None else trajectory
        _check_trajectory(trajectory, q)
        step = memory["step"] if "step" in memory else torch.zeros_like(trajectory)
        advances = (h != 0).flatten().expand(q.shape[0])
        numbers = keyed_noise(
            seed=self.seed,
            trajectory=trajectory,
            step=step,
            advances=advances,
            num_steps=num_steps,
            num_streams=self.contacts,
            like=q,
        )
        return numbers, {"trajectory": trajectory, "step": step + num_steps * advances}


def _check_trajectory(trajectory: Tensor, q: Tensor) -> None:
    if not isinstance(trajectory, Tensor):
        raise TypeError(f"trajectory must be an int64 tensor of shape ({q.shape[0]},); got {trajectory!r}")
    if trajectory.dtype != torch.int64 or trajectory.shape != q.shape[:1]:
        raise ValueError(
            f"trajectory must be int64, one name per system, shape ({q.shape[0]},); "
            f"got {trajectory.dtype}, shape {tuple(trajectory.shape)}"
        )
    if trajectory.device.type == "cpu" and bool(((trajectory < 0) | (trajectory > MAX_TRAJECTORY)).any()):
        raise ValueError(f"trajectory must be from 0 to {MAX_TRAJECTORY}; got {trajectory.tolist()}")


@dataclass(frozen=True)
class Langevin(StochasticThermostat):
    """Langevin dynamics, dq = v dt, dp = (F − γp) dt + √(2γ k_B T m) dW, as a word over A, B and O.

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.
        seed: of the noise, 0 to 2⁶⁴ − 1.
        friction: γ in 1/time, not negative.
    """

    friction: float = 1.0
    conserves_energy = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.friction < math.inf:
            raise ValueError(f"friction is a rate in 1/time, finite and >= 0; got {self.friction}")

    def bath(self, system: MassiveSystem, q: Tensor, h: Tensor, memory: Memory, num_steps: int) -> Bath:
        """Friction and noise over h/n for each of the n letters O."""
        rate = self.friction * h / self.contacts
        spread = None
        if self.temperature > 0 and self.friction > 0:
            amplitude = (self.temperature * system.free_masses).sqrt()
            spread = torch.where(system.free, amplitude * (-torch.expm1(-2 * rate)).sqrt(), 0.0)
        return _OrnsteinUhlenbeck(torch.exp(-rate), spread, *self.noise(q, h, memory, num_steps))


class _OrnsteinUhlenbeck(Bath):
    """p ← decay · p + spread · ξ."""

    def __init__(self, decay: Tensor, spread: Tensor | None, noise: Iterator[Tensor], after: Memory) -> None:
        self._decay, self._spread, self._noise, self._after = decay, spread, noise, after

    def act(self, p: Tensor) -> Tensor:
        damped = self._decay * p
        return damped if self._spread is None else torch.addcmul(damped, self._spread, next(self._noise))

    def memory(self) -> Memory:
        return self._after


@dataclass(frozen=True)
class BAOAB(Langevin):
    """Langevin dynamics as kick, drift, noise, drift, kick: the choice for sampling positions.

    For a harmonic oscillator the distribution of q is exact at every stable step, that of p has the variance
    m k_B T (1 − h²ω²/4).

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.
        seed: of the noise, 0 to 2⁶⁴ − 1.
        friction: γ in 1/time, not negative.

    Example:
        >>> from lie_sim.integrators import SystemDynamics, advance
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> method, names = BAOAB(temperature=0.5, friction=2.0, seed=1), torch.tensor([10, 11])
        >>> q, p, memory = advance(SystemDynamics(system, particles), state.q, state.p, step_size=0.01,
        ...                        num_steps=5, method=method, memory={"trajectory": names})
        >>> memory["step"].tolist(), sorted(memory)
        ([5, 5], ['force', 'step', 'trajectory'])
    """

    name: str = field(default="baoab", init=False)
    order: int = field(default=2, init=False)
    scheme: str = field(default="BAOAB", init=False)
    citation: str = field(
        default="Leimkuhler, Matthews, Appl. Math. Res. Express 2013 (2013) 34; J. Chem. Phys. 138 (2013) 174102",
        init=False,
    )


@dataclass(frozen=True)
class LangevinMiddle(Langevin):
    """The leapfrog form of BAOAB: one whole kick, then drift, noise, drift.

    Its positions are those of BAOAB with momenta half a kick behind: for a harmonic oscillator the distributions of
    q and of p are both exact at every stable step. As a path in time it is of order 1 only, by that half kick.

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.
        seed: of the noise, 0 to 2⁶⁴ − 1.
        friction: γ in 1/time, not negative.

    Example:
        >>> LangevinMiddle(friction=0.5).options()
        {'temperature': 1.0, 'seed': 0, 'friction': 0.5}
    """

    name: str = field(default="langevin_middle", init=False)
    order: int = field(default=1, init=False)
    scheme: str = field(default="BAOA", init=False)
    citation: str = field(
        default="Zhang, Liu, Yan, Tuckerman, Liu, J. Phys. Chem. A 123 (2019) 6056; the form of OpenMM's "
        "LangevinMiddleIntegrator",
        init=False,
    )


@dataclass(frozen=True)
class OBABO(Langevin):
    """Noise around a velocity Verlet step: the choice where momenta, or the work done by the step, matter.

    For a harmonic oscillator the distribution of p is exact, that of q has the variance k_B T / (k (1 − h²ω²/4)).

    Args:
        temperature: k_B T in the unit of energy of the system, not negative.
        seed: of the noise, 0 to 2⁶⁴ − 1.
        friction: γ in 1/time, not negative.

    Example:
        >>> OBABO().contacts
        2
    """

    name: str = field(default="obabo", init=False)
    order: int = field(default=2, init=False)
    scheme: str = field(default="OBABO", init=False)
    citation: str = field(default="Bussi, Parrinello, Phys. Rev. E 75 (2007) 056707", init=False)


LANGEVIN_METHODS = (BAOAB(), LangevinMiddle(), OBABO())
