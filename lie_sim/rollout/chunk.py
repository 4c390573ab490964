"""Systems that advance together, each of which may stop being finite without stopping the others.

    (q, p, memory)_{k+1} = Φ_h^{save_every·substeps} (q, p, memory)_k

A system whose state stops being finite, or grows beyond a bound, is NaN from that saved time on. Its place in the batch
is kept by its (finite) initial state, so that the others are computed the same way, to the bit.

A system that depends on time has its clock, whose origin moves with the frames: τ is 0 at each of them.

The drift of a system is |H − H₀| over its mean kinetic energy so far, T = ½ Σ p·v: the zero of a learned potential is
arbitrary, so |H₀| is no scale. H includes the energy that a heat bath has taken, where the method counts it, and that
of a driven system p_t, the energy that the drive has taken.

Shape letters: B batch, F frames, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lie_sim.integrators import Clocked, Memory, Method
from lie_sim.state import PhaseState


@runtime_checkable
class BoundSystem(Protocol):
    """What a rollout needs beside what its method calls: the energy to report, and the velocity."""

    def velocity(self, p: Tensor) -> Tensor:
        """∂T/∂p, of the shape of p."""

    def energy(self, state: PhaseState) -> Tensor:
        """H of each system, shape (B,)."""

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(dq/dt, dp/dt) at (q, p), of their shapes."""


class Chunk:
    """Part of a batch: its state, what its method remembers, and who is still alive.

    Args:
        system: energies and velocities.
        method: how to advance.
        dynamics: what the method calls.
        q: initial positions, shape (B, N, d).
        p: initial momenta, shape (B, N, d).
        memory: what the method starts with.
        bound: largest absolute coordinate or momentum that is taken seriously.

    Raises:
        ValueError: an initial state is beyond the bound.
    """

    def __init__(
        self,
        system: BoundSystem,
        method: Method,
        dynamics: Any,
        q: Tensor,
        p: Tensor,
        *,
        memory: Memory,
        bound: float,
    ) -> None:
        self.system, self.method, self.dynamics, self.bound = system, method, dynamics, bound
        self._clock = system if isinstance(system, Clocked) else None
        if self._clock is not None:
            self._clock.origin = self._clock.begun
            q, p = self._clock.start(q, p)
        self.alive = (q.isfinite() & p.isfinite()).flatten(1).all(1)
        self._check_start(q, p)
        self._spare = (q.nan_to_num(0.0, 0.0, 0.0), p.nan_to_num(0.0, 0.0, 0.0))
        self.q, self.p = self._spare
        self.memory = memory
        self.first_energy = self._energy()
        self.kinetic_sum = self._kinetic()
        self.frames = 1

    def advance(self, step_size: float, num_steps: int) -> None:
        """To the next saved time; what diverged on the way is replaced."""
        q, p, memory = self.method.advance(
            self.dynamics,
            self.q,
            self.p,
            step_size=step_size,
            num_steps=num_steps,
            memory=self.memory or None,
        )
        self._move_clock(self.frames * (step_size * num_steps))
        self.alive = self.alive & (self._size(q, p) <= self.bound)  # False for NaN
        q, p = (self._keep(new, spare) for new, spare in zip((q, p), self._spare, strict=True))
        self.q, self.p = q if self._clock is None else self._clock.rewound(q), p
        self.memory = {name: self._keep_memory(value) for name, value in memory.items()}
        self.kinetic_sum = self.kinetic_sum + self._kinetic()
        self.frames += 1

    def _move_clock(self, elapsed: float) -> None:
        """So that it shows the time of the frame at τ = 0."""
        if self._clock is not None:
            self._clock.origin = self._clock.begun + elapsed

    def phase(self) -> tuple[Tensor, Tensor]:
        """Positions and momenta of the particles, without a clock, each (B, N, d)."""
        return (self.q, self.p) if self._clock is None else (self.q[:, :-1], self.p[:, :-1])

    def frame(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, p and energy now, NaN for what has diverged."""
        q, p, energy = (self._keep(x, torch.nan) for x in (*self.phase(), self._energy()))
        return q, p, energy

    def drift(self, energy: Tensor) -> Tensor:
        """|H − H₀| over the mean kinetic energy so far, shape (B,); 0 for what has diverged or is at rest.

        H includes the energy in the heat bath of a thermostat; NaN, if the method does not know it.
        """
        if not self.method.conserves_energy:
            return torch.full_like(self.kinetic_sum, torch.nan)
        scale = self.kinetic_sum / self.frames
        bath = self.method.bath_energy(self.dynamics, self.q, self.memory)
        taken = 0.0 if self._clock is None else self.p[:, -1, 0].double()
        change = (energy.double() + bath + taken - self.first_energy.double()).abs()
        return torch.where(scale > 0, change / torch.where(scale > 0, scale, 1.0), 0.0).nan_to_num(0.0)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a continued run needs, by name."""
        own = {name: getattr(self, name) for name in ("q", "p", "alive", "first_energy", "kinetic_sum")}
        if self._clock is not None:
            own["time"] = self._clock.origin.expand(len(self.q)).clone()
        return {**own, **{f"memory.{name}": value for name, value in self.memory.items()}}

    def restore(self, tensors: dict[str, Tensor], frames: int) -> None:
        """Continue from what :meth:`tensors` gave after ``frames`` frames."""
        for name in ("q", "p", "alive", "first_energy", "kinetic_sum"):
            setattr(self, name, tensors[name].to(self.q.device))
        if self._clock is not None:
            self._clock.origin = tensors["time"]
        prefix = "memory."
        self.memory = {
            name.removeprefix(prefix): value.to(self.q.device)
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        self.frames = frames

    def _energy(self) -> Tensor:
        if self._clock is not None:
            return self._clock.energy_at(self.q, self.p)
        return self.system.energy(PhaseState(q=self.q, p=self.p))

    def _kinetic(self) -> Tensor:
        if self._clock is not None:
            return self._clock.kinetic_energy(self.p).double()
        return 0.5 * (self.p * self.system.velocity(self.p)).double().flatten(1).sum(1)

    def _keep(self, value: Tensor, spare: Tensor | float) -> Tensor:
        return torch.where(self.alive.reshape(-1, *(1,) * (value.ndim - 1)), value, spare)

    def _keep_memory(self, value: Tensor) -> Tensor:
        """Of a system that diverged: anything finite."""
        of_systems = value.is_floating_point() and value.shape[:1] == self.alive.shape
        return self._keep(value, 0.0) if of_systems else value

    def _check_start(self, q: Tensor, p: Tensor) -> None:
        beyond = self.alive & (self._size(q, p) > self.bound)
        if bool(beyond.any()):
            largest = float(self._size(q, p)[beyond].max())
            raise ValueError(
                f"an initial state has a coordinate or momentum of {largest:.3g}, "
                f"beyond divergence_bound={self.bound:g}: raise divergence_bound, or use other units"
            )

    def _size(self, q: Tensor, p: Tensor) -> Tensor:
        if self._clock is not None:  # no bound for time and work, but they must be finite
            finite = (q[:, -1] + p[:, -1]).isfinite().all(1)
            q, p = (torch.where(finite[:, None, None], x[:, :-1], torch.nan) for x in (q, p))
        return torch.maximum(q.flatten(1).abs().amax(1), p.flatten(1).abs().amax(1))
