r"""Pairs whose directions are spherical harmonics: irreducible representations of O(3), with the constants of e3nn.

    Y^{l+1}(u) = c_l (Y^l(u) ⊗ u)^{l+1},     Y⁰ = 1,     u = r / √(r² + ε²)

(a ⊗ b)^l is the part of degree l of the product, by Clebsch-Gordan coefficients, and |Y^l(u)|² = 2l + 1 for unit u.
Every Y^l is a homogeneous polynomial of u, hence smooth where two particles meet.

Representations are named as in e3nn: "0e" numbers, "1o" vectors, "1e" axial vectors, "2e" traceless symmetric matrices;
e is even and o odd under inversion. Components are in the order of e3nn, where those of a vector are x, y, z.

Shape letters: B batch, N particles, K neighbours, d space dimension, S = (lmax + 1)² components of all Y, C channels.
Reference: Geiger, Smidt, "e3nn: Euclidean neural networks", 2022, arXiv:2207.09453.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.errors import MissingPackageError
from lie_sim.lifting.exact import Exact
from lie_sim.lifting.moments import DirectionLift

PARITIES = ("natural", "both", "none")
_ANY_DIRECTION = (0.36, 0.48, 0.8)


def irreps() -> Any:
    """The module ``e3nn.o3``.

    Raises:
        MissingPackageError: e3nn is not installed.
    """
    try:
        from e3nn import o3
    except ImportError as error:
        raise MissingPackageError(
            f"representations of O(3) need the package e3nn ({error}): pip install 'lie_sim[se3]'"
        ) from error
    return o3


def representations(lmax: int, parity: str) -> tuple[str, ...]:
    """Names of the representations up to a degree.

    Args:
        lmax: largest degree.
        parity: "natural" (that of the spherical harmonics), "both" of each degree, or "none" (rotations only: all are
            called even).

    Example:
        >>> representations(2, "natural"), representations(1, "both"), representations(1, "none")
        (('0e', '1o', '2e'), ('0e', '0o', '1o', '1e'), ('0e', '1e'))
    """
    if parity not in PARITIES:
        raise ValueError(f"unknown parity {parity!r}; choose one of {', '.join(PARITIES)}")
    names: list[str] = []
    for degree in range(lmax + 1):
        natural = "oe" if degree % 2 else "eo"
        kept = {"natural": natural[0], "both": natural, "none": "e"}[parity]
        names += [f"{degree}{letter}" for letter in kept]
    return tuple(names)


def vector_representation(parity: str) -> str:
    """Name of the representation of positions and velocities.

    Example:
        >>> vector_representation("natural"), vector_representation("none")
        ('1o', '1e')
    """
    return "1e" if parity == "none" else "1o"


def dimension(representation: str) -> int:
    """2l + 1.

    Example:
        >>> dimension("2e")
        5
    """
    return 2 * int(representation[:-1]) + 1


class SphericalHarmonics(nn.Module):
    """All Y^l up to a degree; see the module's equation.

    Args:
        lmax: largest degree.

    Raises:
        MissingPackageError: e3nn is not installed.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        o3, direction = irreps(), torch.tensor(_ANY_DIRECTION, dtype=torch.float64)
        last = torch.ones(1, dtype=torch.float64)
        steps = []
        for degree in range(lmax):
            step = o3.wigner_3j(degree, 1, degree + 1, dtype=torch.float64)
            found = torch.einsum("a,b,abc->c", last, direction, step)
            last = o3.spherical_harmonics(degree + 1, direction, normalize=False, normalization="component")
            steps.append(Exact(step.flatten(0, 1) * ((found @ last) / (found @ found))))
        self.steps = nn.ModuleList(steps)

    def forward(self, u: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s S"]:
        """Y⁰, Y¹, … of every vector."""
        degrees = [torch.ones_like(u[..., :1])]
        for step in self.steps:
            degrees.append((degrees[-1][..., None] * u[..., None, :]).flatten(-2) @ step(u))
        return torch.cat(degrees, dim=-1)


class HarmonicLift(DirectionLift):
    """Distances and spherical harmonics of all pairs; in the plane, those of the plane z = 0.

    Args:
        dim: space dimension d, 2 or 3.
        lmax: largest degree.
        **options: of :class:`~lie_sim.lifting.moments.DirectionLift`.

    Raises:
        MissingPackageError: e3nn is not installed.
    """

    def __init__(self, dim: int, *, lmax: int, **options: Any) -> None:
        super().__init__(dim, nn.Sequential(InSpace(), SphericalHarmonics(lmax)), **options)


class MomentsOf(nn.Module):
    """Numbers, vectors and traceless matrices as the components of :mod:`lie_sim.lifting.moments`, lengths unchanged.

    Args:
        parity: of the representations.

    Attributes:
        names: of the representations.

    Raises:
        MissingPackageError: e3nn is not installed.
    """

    def __init__(self, parity: str) -> None:
        super().__init__()
        self.names = ("0e", vector_representation(parity), "2e")
        matrices = irreps().wigner_3j(1, 1, 2, dtype=torch.float64) * 5**0.5
        row, column = torch.triu_indices(3, 3)
        roots = torch.where(row == column, 1.0, torch.tensor(2.0, dtype=torch.float64).sqrt())
        self.matrices = Exact(matrices[row, column] * roots[:, None])

    def forward(self, f: dict[str, Float[Tensor, "B N M C"]]) -> Float[Tensor, "B N 10 C"]:
        """One moment for each channel."""
        number, vector, matrix = (f[name] for name in self.names)
        return torch.cat([number, vector, self.matrices(matrix) @ matrix], dim=-2)


class InSpace(nn.Module):
    """:func:`in_space` as a layer."""

    def forward(self, x: Float[Tensor, "*s d"]) -> Float[Tensor, "*s 3"]:
        """Of every vector."""
        return in_space(x)


def in_space(x: Float[Tensor, "*s d"]) -> Float[Tensor, "*s 3"]:
    """A vector of the line or the plane as one of space.

    Example:
        >>> in_space(torch.tensor([1.0, 2.0]))
        tensor([1., 2., 0.])
    """
    return nn.functional.pad(x, (0, 3 - x.shape[-1]))
