"""Blocks of steps as one compiled function, the force included, for runs without gradients.

    (q, p, F) ← Ψ_K(q, p, F; h),      Ψ_K: K steps, traced once to a flat list of tensor operations and compiled

A force that is the gradient of an energy is recorded as the operations that the gradient executed, so nothing of
autograd is left in the block, and no special support for it is needed. What tracing fixes: shapes, dtype, device,
every branch taken in Python, and attributes that are plain numbers. What stays
free: state, step size, and the values of the weights. Another parameter, buffer or submodule in the place of the one
before, evaluation in place of training, or other settings of autocast lead to another block
(:mod:`lie_sim.integrators.taken_for_granted`).

Compiling takes tens of seconds and a C++ compiler; it pays for long runs of small systems, where the overhead of single
operations is most of the time.

Shape letters: B batch, N particles, d space dimension, K steps of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lie_sim.integrators.leaves import graph_leaves
from lie_sim.integrators.method import Memory, Method, StepSize, broadcast_step
from lie_sim.integrators.splitting import SplittingMethod
from lie_sim.integrators.taken_for_granted import taken_for_granted
from lie_sim.integrators.tracing import trace

_Block = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
_BLOCKS: WeakKeyDictionary[Any, dict[Any, tuple[_Block, list[Any]]]] = WeakKeyDictionary()
"""Blocks by the dynamics they were traced from, which is kept alive by its users, not by this table."""
MOST_BLOCKS = 32
"""Blocks that are kept of one dynamics; the oldest goes first, with the tensors it was traced with."""


@dataclass(frozen=True)
class Compiled(Method):
    """A splitting method whose steps run in compiled blocks.

    Args:
        method: a splitting method.
        block: K, steps of one compiled block; what is left of a run is done step by step.
        backend: of ``torch.compile``; "none" runs the traced operations as they are.

    Raises:
        TypeError: the method is no splitting method.

    Example:
        >>> from lie_sim.integrators import SystemDynamics, advance, get_method
        >>> from lie_sim.systems import Springs
        >>> state, particles = Springs().sample(1, generator=torch.Generator().manual_seed(0))
        >>> fast = Compiled(get_method("leapfrog"), block=4, backend="none")
        >>> run = {"step_size": 0.01, "num_steps": 10}
        >>> with torch.no_grad():
        ...     q, _, _ = advance(SystemDynamics(Springs(), particles), state.q, state.p, method=fast, **run)
        ...     slow, _, _ = advance(SystemDynamics(Springs(), particles), state.q, state.p, **run)
        >>> bool((q - slow).abs().max() < 1e-14)
        True
    """

    method: Method
    block: int = 8
    backend: str = "inductor"

    def __post_init__(self) -> None:
        if not isinstance(self.method, SplittingMethod):
            raise TypeError(f"compiled blocks are for splitting methods, not for {self.method.name}")
        if self.block < 1:
            raise ValueError(f"block must be at least 1, got {self.block}")
        for name in ("name", "order", "citation", "symplectic", "reversible", "remembers"):
            object.__setattr__(self, name, getattr(self.method, name))

    def dynamics(self, candidate: Any) -> Any:
        """As the method's own."""
        return self.method.dynamics(candidate)

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
        """Do ``num_steps`` steps; the first call for a shape compiles.

        Raises:
            ValueError: a gradient is wanted, which compiled blocks do not have.
        """
        wanted = torch.is_grad_enabled() and (
            any(isinstance(x, Tensor) and x.requires_grad for x in (q, p, step_size))
            or bool(graph_leaves(dynamics, q, p))
        )
        if wanted:
            raise ValueError(
                "compiled blocks have no gradients: run under torch.no_grad(), take a reversible method and "
                'adjoint="reversible", which compiles the force and its derivative, or leave compile out'
            )
        with torch.no_grad():
            if num_steps >= self.block:
                h = torch.as_tensor(broadcast_step(step_size, q), dtype=q.dtype, device=q.device)
                force = (memory or {}).get("force")
                force = dynamics.force(q) if force is None else force
                run = self._block(dynamics, q, p, force, h)
                for _ in range(num_steps // self.block):
                    q, p, force = run(q, p, force, h)
                num_steps, memory = num_steps % self.block, _carried(self.method, force)
            return self.method.advance(
                dynamics, q, p, step_size=step_size, num_steps=num_steps, memory=memory
            )

    def _block(self, dynamics: Any, q: Tensor, p: Tensor, force: Tensor, h: Tensor) -> _Block:
        identity, kept = taken_for_granted(dynamics, q.device)
        key = (self.method, self.block, self.backend, q.shape, q.dtype, q.device, h.shape, identity)
        known = _BLOCKS.setdefault(dynamics, {})
        if key not in known:
            block = compile_block(self.method, dynamics, (q, p, force, h), self.block, self.backend)
            if len(known) >= MOST_BLOCKS:
                del known[next(iter(known))]
            known[key] = (block, kept)
        return known[key][0]

    def _option_fields(self) -> tuple[Any, ...]:
        return ()


def compile_block(
    method: Method, dynamics: Any, example: tuple[Tensor, Tensor, Tensor, Tensor], block: int, backend: str
) -> _Block:
    """Trace and compile ``block`` steps.

    Args:
        method: a splitting method.
        dynamics: what ``method.dynamics`` returned.
        example: (q, p, force, h) of the shapes that the block is for.
        block: number of steps.
        backend: of ``torch.compile``, or "none".

    Returns:
        The function (q, p, force, h) → (q, p, force).

    Raises:
        ValueError: the force decides by numbers what it computes, as one does that searches neighbours.
    """

    def steps(q: Tensor, p: Tensor, force: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            q, p, memory = _advance(method, dynamics, q, p, h, block, force)
            return q, p, memory.get("force", force)

    traced = trace(steps, example)
    if backend == "none":
        return traced
    compiled: _Block = torch.compile(traced, backend=backend, fullgraph=True, dynamic=False)
    return compiled


def _advance(
    method: Method, dynamics: Any, q: Tensor, p: Tensor, h: Tensor, num_steps: int, force: Tensor
) -> tuple[Tensor, Tensor, Memory]:
    """:meth:`SplittingMethod.advance` with a step that is a tensor already, checked before."""
    assert isinstance(method, SplittingMethod)
    return method.steps(dynamics, q, p, h, num_steps, _carried(method, force))


def _carried(method: Method, force: Tensor) -> Memory:
    """The force, for methods whose last one serves the next step; of the others it belongs to positions long left."""
    assert isinstance(method, SplittingMethod)
    return {"force": force} if method.first_same_as_last else {}
