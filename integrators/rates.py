"""What stepping back needs of a system: a force or velocity, and the products with its derivative.

    r = f(x; θ),      λ_x = (∂f/∂x)ᵀ c,      θ̄ = (∂f/∂θ)ᵀ c,      f = F (force) or v (velocity)

One evaluation gives all three: r undoes a flow, the products carry the slopes of the loss through it.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.dynamics import check_rate
from lie_sim.integrators.leaves import require_known

Slopes = list[Tensor | None]
"""Slopes that were collected, None where nothing contributed yet."""


class Rates:
    """Force and velocity of a system as they are, differentiated by autograd.

    Args:
        dynamics: what ``method.dynamics`` returned.
        leaves: tensors behind force and velocity that gradients are wanted for.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> state, particles = Springs().sample(1, generator=torch.Generator().manual_seed(0))
        >>> rates = Rates(SystemDynamics(Springs(), particles), ())
        >>> force, slope, _ = rates.pull_back(0, state.q, torch.ones_like(state.q))
        >>> bool((force == rates.rate(0, state.q)).all()), bool(slope.sum().abs() < 1e-12)  # springs push back
        (True, True)
    """

    def __init__(self, dynamics: Any, leaves: tuple[Tensor, ...]) -> None:
        self.dynamics, self.leaves = dynamics, leaves

    def rate(self, source: int, x: Tensor) -> Tensor:
        """The force at positions x (source 0) or the velocity at momenta x (source 1)."""
        rate: Tensor = self.dynamics.velocity(x) if source else self.dynamics.force(x)
        check_rate("velocity(p)" if source else "force(q)", rate, x)
        return rate

    def as_pulled_back(self, source: int, x: Tensor) -> Tensor:
        """The same by the operations of :meth:`pull_back`, lest another kernel round otherwise."""
        return self._with_graph(source, x)[0].detach()

    def pull_back(self, source: int, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor | None, Slopes]:
        """The rate at x, and its derivatives times a cotangent.

        Args:
            source: 0 for the force, 1 for the velocity.
            x: where, shape (B, N, d).
            cotangent: c, shape (B, N, d).

        Returns:
            r, λ_x (None for a constant), and θ̄ as :meth:`by_leaf` understands it.

        Raises:
            RuntimeError: the rate depends on a tensor that is not among the leaves.
        """
        rate, node = self._with_graph(source, x)
        if not rate.requires_grad:
            return rate, None, []
        require_known(self.dynamics, [rate], (node, *self.leaves))
        # another evaluation may share a part of the graph: tensors that were computed before the run
        slopes: Slopes = list(
            torch.autograd.grad(rate, (node, *self.leaves), cotangent, allow_unused=True, retain_graph=True)
        )
        return rate.detach(), slopes[0], slopes[1:]

    def by_leaf(self, collected: Slopes) -> Slopes:
        """Sums of what :meth:`pull_back` returned, for each leaf."""
        return collected or [None] * len(self.leaves)

    def _with_graph(self, source: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rate with its graph, and the node that x is in it."""
        with torch.enable_grad():
            node = x.detach().requires_grad_(True)
            return self.rate(source, node), node


def add_slopes(collected: Slopes, further: Slopes) -> Slopes:
    """Entry by entry; either may be empty.

    Example:
        >>> add_slopes([None, torch.ones(())], [torch.ones(()), torch.ones(())])
        [tensor(1.), tensor(2.)]
    """
    if not collected or not further:
        return collected or further
    pairs = zip(collected, further, strict=True)
    return [b if a is None else a if b is None else a + b for a, b in pairs]
