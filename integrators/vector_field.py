"""What a method for non-separable Hamiltonians needs of a system: its vector field, any (q, p) together.

    dq/dt = ∂H/∂p,      dp/dt = −∂H/∂q

Particles without mass are padding: whatever the system says of them, they stay where they are.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Phase = tuple[Tensor, Tensor]


class VectorField:
    """The vector field of a system, as the function (q, p) → (dq/dt, dp/dt).

    Args:
        field: function of (t, (q, p)).
        padding: True where there is no particle, shape (B, N, 1); None means nowhere.
        owner: the system, whose parameters a gradient may be asked for.
    """

    def __init__(
        self,
        field: Callable[[Tensor, Phase], Phase],
        padding: Bool[Tensor, "B N 1"] | None = None,
        *,
        owner: object = None,
    ) -> None:
        self.field = field
        self.padding = padding
        self.owner = owner

    def __call__(self, q: Float[Tensor, "B ..."], p: Float[Tensor, "B ..."]) -> Phase:
        """(∂H/∂p, −∂H/∂q) at (q, p), of the shapes of q and p.

        Raises:
            TypeError: the system returns other shapes, which would be broadcast.
        """
        p = without_padding(p, self.padding)
        dq, dp = self.field(q.new_zeros(()), (q, p))
        if dq.shape != q.shape or dp.shape != p.shape:
            raise TypeError(
                f"the vector field must return two tensors of the shapes of (q, p), {tuple(q.shape)} and "
                f"{tuple(p.shape)}; got {tuple(dq.shape)} and {tuple(dp.shape)}"
            )
        return without_padding(dq, self.padding), without_padding(dp, self.padding)


def vector_field(candidate: object) -> VectorField:
    """Check that ``candidate`` has a vector field, before anything is computed with it.

    Args:
        candidate: an object with ``vector_field(t, (q, p))`` or with ``force(q)`` and ``velocity(p)``, or its
            method ``vector_field`` or ``forward``.

    Raises:
        TypeError: it has neither; a plain function could be anything, such as the flat system of an adjoint.

    Example:
        >>> class Rotation:
        ...     def vector_field(self, t, state):
        ...         q, p = state
        ...         return p, -q
        >>> [x.item() for x in vector_field(Rotation())(torch.ones(1), 2 * torch.ones(1))]
        [2.0, -1.0]
    """
    if isinstance(candidate, VectorField):
        return candidate
    owner: Any = candidate
    if getattr(candidate, "__name__", "") in ("vector_field", "forward"):
        owner = getattr(candidate, "__self__", candidate)
    padding = padding_of(owner)
    if callable(getattr(owner, "vector_field", None)):
        return VectorField(owner.vector_field, padding, owner=owner)
    if all(callable(getattr(owner, part, None)) for part in ("force", "velocity")):
        return VectorField(
            lambda t, state: (owner.velocity(state[1]), owner.force(state[0])), padding, owner=owner
        )
    raise TypeError(
        "methods for any Hamiltonian call vector_field(t, (q, p)) -> (dq, dp), but "
        f"{type(owner).__name__} has no vector_field, and not both force(q) and velocity(p); pass a Hamiltonian "
        "bound to its particles (H.bind(particles)), SystemDynamics(system, particles), or an object with that method"
    )


def padding_of(owner: object) -> Bool[Tensor, "B N 1"] | None:
    """Where the particles of a system have no mass, shape (B, N, 1); None if they all have."""
    particles = getattr(owner, "particles", None) or getattr(owner, "_particles", None)
    masses = getattr(particles, "masses", None)
    if not isinstance(masses, Tensor) or bool((masses != 0).all()):
        return None
    return (masses == 0)[..., None]


def without_padding(
    x: Float[Tensor, "*shape"], padding: Bool[Tensor, "B N 1"] | None
) -> Float[Tensor, "*shape"]:
    """``x`` with zeros for padding, in the gradient too, whatever stands there."""
    return x if padding is None else torch.where(padding, 0.0, x)
