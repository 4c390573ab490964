"""Fixed points x = g(x) of a batch of systems to round-off, by Anderson acceleration.

    f_k = g(x_k) − x_k,      x_{k+1} = g(x_k) − Σ_j γ_j Δg_j,      γ = argmin ‖f_k − Σ_j γ_j Δf_j‖

The differences Δf_j of past residuals are kept orthogonal (the Δg_j are combined alike), so γ_j is one inner
product. For a linear g this is a truncated GCR, hence it also converges where plain iteration diverges.
Each system has its own γ and stops on its own: its x is frozen once its increment is a few rounding errors, or
is that small in q or in p and no longer decreases, the rule of Hairer, McLachlan and Razakarivony that reaches
round-off without asking for more.

Shape letters: B batch, s stages, D unknowns of q or of p per stage.
References: Anderson, J. ACM 12 (1965) 547; Walker, Ni, SIAM J. Numer. Anal. 49 (2011) 1715;
Hairer, McLachlan, Razakarivony, BIT 48 (2008) 231.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lie_sim.errors import ConvergenceError

Unknowns = Float[Tensor, "B s 2 D"]
Map = Callable[[Tensor], Tensor]

TOLERANCE_ULPS = 4
"""Default increment at which a system has converged, in rounding errors of its state."""
STAGNATION_ULPS = 400
"""Where the increment of q or p is below so many rounding errors, one that stops decreasing is round-off."""
STALE_ITERATIONS = 2
"""So many iterations without a smaller increment are a standstill."""
DEPENDENT = 1e-2
"""A difference whose part orthogonal to the others is shorter than this, relative to it, says nothing new."""


@dataclass(frozen=True)
class FixedPointSolver:
    """How exactly to solve, how long to try, and what to do with systems that do not converge.

    Args:
        tolerance: largest increment of a converged system, relative to its ``scale``; None means 4 rounding errors.
        max_iterations: evaluations of g at most.
        on_failure: ``"raise"`` an error, or return ``"nan"`` for the systems concerned and let the others go on.
        depth: number of past differences that are kept; 0 is plain iteration.

    Example:
        >>> one = torch.ones(1, 1, 2, 1, dtype=torch.float64)
        >>> x, failed = FixedPointSolver().solve(torch.cos, one, one)
        >>> round(float(x.mean()), 12), failed
        (0.739085133215, None)
    """

    tolerance: float | None = None
    max_iterations: int = 60
    on_failure: str = "raise"
    depth: int = 6

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(
                f"tolerance must be between 0 and 1, or None for round-off; got {self.tolerance}"
            )
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}")
        if self.on_failure not in ("raise", "nan"):
            raise ValueError(f'on_failure must be "raise" or "nan", got {self.on_failure!r}')

    @torch.no_grad()
    def solve(
        self, g: Map, guess: Unknowns, weight: Float[Tensor, "B 1 2 1"]
    ) -> tuple[Unknowns, Bool[Tensor, " B"] | None]:
        """The solution x = g(x), and which systems failed (None: no system).

        Args:
            g: the map; it must treat every system apart.
            guess: where to start, shape (B, s, 2, D).
            weight: 1 / scale of the unknowns of q and of p; a system of weight 0 is not iterated.

        Raises:
            ConvergenceError: a system has not converged, and ``on_failure`` is "raise".
        """
        x = guess
        history, progress = _History(self.depth, weight), _Progress(weight, self.tolerance)
        for _ in range(self.max_iterations):
            value = g(x)
            residual = value - x
            running = progress.update(residual)
            if not bool(running.any()):
                break
            step = history.accelerated(value, residual)
            x = torch.where(running[:, None, None, None], step, x)
        failed = ~progress.done
        if not bool(failed.any()):
            return value, None
        if self.on_failure == "raise":
            raise ConvergenceError(self._complaint(failed, progress.error))
        return value, failed

    def _complaint(self, failed: Tensor, error: Tensor) -> str:
        which = failed.nonzero().flatten().tolist()
        shown = ", ".join(map(str, which[:5])) + (", …" if len(which) > 5 else "")
        return (
            f"{len(which)} of {len(failed)} systems (batch indices {shown}) did not converge in "
            f"{self.max_iterations} iterations: largest relative increment {float(error[failed].max()):.1e}; "
            'use a smaller step, raise max_iterations, or set on_failure="nan" to let the other systems go on'
        )


class _Progress:
    """The increment of every system, and whether it has converged."""

    def __init__(self, weight: Tensor, tolerance: float | None) -> None:
        ulp = torch.finfo(weight.dtype).eps
        self.weight = weight[:, 0, :, 0]
        self.tolerance = TOLERANCE_ULPS * ulp if tolerance is None else tolerance
        self.round_off = STAGNATION_ULPS * ulp
        self.error = self.best = weight.new_full(weight.shape[:1], torch.inf)
        self.stale = torch.zeros_like(self.best)
        self.done = torch.zeros_like(self.best, dtype=torch.bool)

    def update(self, residual: Tensor) -> Bool[Tensor, " B"]:
        """Take in a residual; which systems go on."""
        by_part = residual.abs().amax((1, 3)) * self.weight
        self.error = by_part.amax(1)
        self.stale = torch.where(self.error < self.best, 0.0, self.stale + 1)
        self.best = torch.minimum(self.best, self.error)
        standstill = (self.stale >= STALE_ITERATIONS) & (by_part.amin(1) <= self.round_off)
        self.done = self.done | standstill | (self.error <= self.tolerance)
        return ~self.done & self.error.isfinite()


class _History:
    """Past differences of residuals, orthonormal in each system, and of the values they belong to."""

    def __init__(self, depth: int, weight: Tensor) -> None:
        self.depth, self.weight = depth, weight
        self.last: Tensor | None = None
        self.kept: Tensor | None = None

    def accelerated(self, value: Unknowns, residual: Unknowns) -> Unknowns:
        """The next x, from g(x) and the residual at the present x."""
        if not self.depth:
            return value
        pair = torch.stack([value.flatten(1), (residual * self.weight).flatten(1)], 1)
        if self.last is not None:
            self._add(pair - self.last)
        self.last = pair
        return self._projected(pair)[:, 0].reshape(value.shape)

    def _projected(self, pair: Float[Tensor, "B 2 n"]) -> Float[Tensor, "B 2 n"]:
        """The pair less its share of the kept differences; sums run in one order whatever the batch."""
        if self.kept is None:
            return pair
        share = (self.kept[:, :, 1] * pair[:, None, 1]).sum(2)
        return pair - (self.kept * share[:, :, None, None]).sum(1)

    def _add(self, pair: Float[Tensor, "B 2 n"]) -> None:
        """Keep a difference, made orthogonal to the others and of length 1, in place of the oldest."""
        before = torch.linalg.vector_norm(pair[:, 1], dim=1)
        pair = self._projected(pair)
        length = torch.linalg.vector_norm(pair[:, 1], dim=1)
        new = (length > DEPENDENT * before)[:, None, None]  # else a combination of the others, up to rounding
        pair = torch.where(new, pair / torch.where(new, length[:, None, None], 1.0), 0.0)[:, None]
        self.kept = pair if self.kept is None else torch.cat([self.kept, pair], 1)[:, -self.depth :]
