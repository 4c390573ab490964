"""What an integration method is: a small object that declares its order and structure and can advance a state.

    (q, p, memory) ← Φ_h^n (q, p, memory)

``memory`` is all that a method carries from one call to the next beside the state: the force of the last kick, a
second copy of phase space, the step counter that keys its noise. It is a dictionary of tensors, the axis of systems
first, so a run can be stored anywhere and continued to the same bit.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import Field, fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

StepSize = float | Float[Tensor, ""] | Float[Tensor, " B"]
Memory = dict[str, Tensor]
_SMALLEST_RANGE = 6e4
"""The largest number of float16: shorter steps fit in every dtype."""


class Method(ABC):
    """Base class of all methods of this package; subclasses are frozen dataclasses.

    Fields that the constructor takes are options, set by ``get_method(name, **options)`` or the ``options`` of
    ``odeint``; the declared facts below are not options and are tested.

    Attributes:
        name: the key under which :func:`~lie_sim.integrators.get_method` knows it.
        order: the error at a fixed time shrinks as h**order (weak order, if ``stochastic``).
        citation: where it comes from.
        symplectic: whether a step conserves the symplectic form.
        reversible: whether a step of −h undoes a step of h.
        stochastic: whether it draws noise.
        conserves_energy: whether H, together with what is in a heat bath (:meth:`bath_energy`), is constant but for
            the error of the step.
        remembers: the names that its memory may hold; None, if they are not known.
        adaptive: whether its steps differ in length, ``step_size`` being the first: each system then has a time of its
            own, ``memory["time"]``, and states at given times come from the method's ``integrate_to``.
    """

    name: str
    order: int
    citation: str
    symplectic: bool
    reversible: bool
    stochastic: bool = False
    conserves_energy: bool = True
    remembers: ClassVar[tuple[str, ...] | None] = None
    adaptive: bool = False

    @abstractmethod
    def dynamics(self, candidate: Any) -> Any:
        """What the method calls, taken from what the user gave.

        Args:
            candidate: a bound Hamiltonian, a ``SystemDynamics``, an object with the functions that the method
                needs, or a bound method of one of these.

        Raises:
            TypeError: it lacks something; the message says what.
        """

    @abstractmethod
    def advance(
        self,
        dynamics: Any,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps, by differentiable operations only.

        Args:
            dynamics: what :meth:`dynamics` returned.
            q: positions, shape (B, N, d).
            p: momenta, shape (B, N, d).
            step_size: h, one for all or one per system, shape (B,); a step of length 0 changes nothing.
            num_steps: number of steps, from 0.
            memory: as returned by the call before; None at the start of a run.

        Returns:
            q, p and the memory after the last step.
        """

    def bath_energy(self, dynamics: Any, q: Tensor, memory: Memory) -> Tensor | float:
        """The energy that a heat bath has taken from each system, shape (B,), or 0: H plus it is conserved."""
        return 0.0

    def named_start(self, trajectory: Tensor | None, q: Tensor) -> Memory | None:
        """The memory at the start of a run whose noise is keyed by these names.

        Args:
            trajectory: whole numbers that name the systems, int64, shape (B,); None takes 0 … B − 1.
            q: positions, shape (B, N, d).

        Raises:
            ValueError: the method draws no noise, or the names do not fit the systems.
        """
        if trajectory is None:
            return None
        raise ValueError(f"{self.name} draws no noise, so the systems need no names: leave trajectory out")

    def check_memory(self, memory: Memory | None) -> None:
        """Refuse a memory with names that the method would ignore.

        Raises:
            ValueError: there is one.
        """
        unknown = [] if self.remembers is None else sorted({*(memory or {})} - {*self.remembers})
        if unknown:
            raise ValueError(
                f"{self.name} has no memory of {', '.join(unknown)}; it remembers "
                f"{', '.join(self.remembers or ()) or 'nothing'}"
            )

    def check_shapes(self, q: Tensor, p: Tensor) -> None:
        """Refuse a state of the wrong shape.

        Raises:
            TypeError: q and p are not of one shape, or not of one dtype and device.
        """
        if q.shape != p.shape or q.dtype != p.dtype or q.device != p.device:
            raise TypeError(
                f"{self.name} needs y0 = (q, p), two tensors of one shape; got {[tuple(q.shape), tuple(p.shape)]}, "
                f"{q.dtype} on {q.device} and {p.dtype} on {p.device}"
            )

    def options(self) -> dict[str, Any]:
        """The options and their values."""
        return {field.name: getattr(self, field.name) for field in self._option_fields()}

    def with_options(self, **options: Any) -> Method:
        """The same method with other options.

        Raises:
            ValueError: the method has no such option.
        """
        known = [field.name for field in self._option_fields()]
        unknown = [name for name in options if name not in known]
        if unknown:
            has = f"its options are {', '.join(known)}" if known else "it has no options of its own"
            raise ValueError(f"{self.name} has no option {', '.join(map(str, unknown))}; {has}")
        return replace(self, **options) if options else self  # type: ignore[type-var]

    def _option_fields(self) -> tuple[Field[Any], ...]:
        return tuple(field for field in fields(self) if field.init)  # type: ignore[arg-type]


def broadcast_step(step_size: StepSize, like: Tensor) -> float | Tensor:
    """The step as a number, or as a tensor that broadcasts against ``like``.

    Args:
        step_size: one number for all, or one per system, shape (B,).
        like: a tensor of shape (B, …), whose dtype and device the result has.

    Raises:
        ValueError: a step is not finite or beyond the range of the dtype, or their number is not B.

    Example:
        >>> broadcast_step(torch.tensor([0.1, 0.2]), torch.zeros(2, 3, 2)).shape
        torch.Size([2, 1, 1])
    """
    if not isinstance(step_size, Tensor):
        if not math.isfinite(step_size):
            raise ValueError(f"step_size must be finite, got {step_size}")
        if abs(step_size) > _SMALLEST_RANGE and abs(step_size) > torch.finfo(like.dtype).max:
            raise ValueError(
                f"step_size={step_size:g} is beyond the range of {like.dtype}: take a shorter step"
            )
        return float(step_size)
    if step_size.ndim > 0 and step_size.shape != like.shape[:1]:
        raise ValueError(
            f"step_size must be one number or one per system, shape ({like.shape[0]},); "
            f"got {tuple(step_size.shape)}"
        )
    if step_size.device.type == "cpu" and not bool(step_size.isfinite().all()):
        raise ValueError(f"every step_size must be finite, got {step_size.tolist()}")
    h = step_size.to(like)
    return h.reshape(-1, *(1,) * (like.ndim - 1)) if h.ndim else h


def add_scaled(x: Tensor, rate: Tensor, duration: float | Tensor, *, in_place: bool = False) -> Tensor:
    """Return x + duration · rate by one operation.

    Example:
        >>> add_scaled(torch.tensor([1.0]), torch.tensor([2.0]), 0.5)
        tensor([2.])
    """
    if isinstance(duration, Tensor):
        return x.addcmul_(rate, duration) if in_place else torch.addcmul(x, rate, duration)
    return x.add_(rate, alpha=duration) if in_place else torch.add(x, rate, alpha=duration)
