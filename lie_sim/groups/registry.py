"""Groups by name, and random symmetry transformations of whole systems.

The names, where n is a number and K one of SO(n), O(n) and the finite groups:

    T(n)  SO(2)  SO(3)  O(2)  O(3)  SE(2)  SE(3)  E(2)  E(3)  R>0xSO(2)
    Cn  Dn  T  O  I  Trivial(n)        finite
    T(n)xK                             translations together with K
"""

from __future__ import annotations

import re

from jaxtyping import Float
from torch import Tensor

from lie_sim.groups.affine import SE2, SE3, SemidirectTranslation, Translation
from lie_sim.groups.base import LieGroup
from lie_sim.groups.finite import Cyclic, Dihedral, Trivial
from lie_sim.groups.linear import SO2, SO3, LinearGroup, Orthogonal
from lie_sim.groups.polyhedral import Icosahedral, Octahedral, Tetrahedral
from lie_sim.groups.sampling import Seed
from lie_sim.groups.scaled import ScaledRotation2

SYNTAX = (
    "T(n), SO(2), SO(3), O(2), O(3), SE(2), SE(3), E(2), E(3), R>0xSO(2), "
    "Trivial(n), Cn, Dn, T, O, I and T(n)xK"
)

_FIXED: dict[str, LieGroup] = {
    known.name: known
    for known in (
        *(SO2(), SO3(), Orthogonal(2), Orthogonal(3), SE2(), SE3(), ScaledRotation2()),
        *(Tetrahedral(), Octahedral(), Icosahedral()),
    )
}
_FIXED["E(2)"] = SemidirectTranslation(Orthogonal(2))
_FIXED["E(3)"] = SemidirectTranslation(Orthogonal(3))


def group(name: str) -> LieGroup:
    """The group with this name.

    Args:
        name: ``T(n)``, ``SO(2)``, ``SO(3)``, ``O(2)``, ``O(3)``, ``SE(2)``, ``SE(3)``, ``E(2)``, ``E(3)``,
            ``R>0xSO(2)``, a finite group ``C4``, ``D3``, ``T``, ``O``, ``I``, ``Trivial(n)``, or
            translations with a linear group, ``T(2)xC4``. Spaces are ignored; × and ⋊ mean x.

    Raises:
        ValueError: there is no such group.

    Example:
        >>> group("T(2)xC4").dim
        2
    """
    plain = re.sub(r"\s", "", name).replace("×", "x").replace("⋊", "x")
    if plain in _FIXED:
        return _FIXED[plain]
    try:
        return _parametrised(plain)
    except ValueError as error:
        raise ValueError(f"there is no group {name!r}: {error}; names are {SYNTAX}") from None


def _parametrised(name: str) -> LieGroup:
    if match := re.fullmatch(r"T\((\d+)\)(?:x(.+))?", name):
        space_dim = int(match[1])
        return _with_translations(space_dim, match[2]) if match[2] else Translation(space_dim)
    if match := re.fullmatch(r"Trivial\((\d+)\)", name):
        return Trivial(int(match[1]))
    if match := re.fullmatch(r"([CD])(\d+)", name):
        return Cyclic(int(match[2])) if match[1] == "C" else Dihedral(int(match[2]))
    raise ValueError("the name is not understood")


def _with_translations(space_dim: int, name: str) -> LieGroup:
    linear = _FIXED.get(name) or _parametrised(name)
    if not isinstance(linear, LinearGroup):
        raise ValueError(f"{name} cannot be combined with translations")
    if linear.space_dim != space_dim:
        raise ValueError(f"{name} acts in {linear.space_dim} dimensions, not in {space_dim}")
    return SemidirectTranslation(linear)


def random_transform(
    name_or_group: str | LieGroup, q: Float[Tensor, "B N n"], generator: Seed = None
) -> Float[Tensor, "B N n"]:
    """Apply one random group element per system to all its positions.

    To transform forces or momenta too, draw ``group(name).random((B,), …)`` and use its matrices.

    Args:
        name_or_group: a group or its name; ``"E(3)"`` and ``"O(3)"`` contain reflections.
        q: positions, shape (B, N, n).
        generator: a generator or an integer seed.

    Raises:
        ValueError: the group acts in another dimension.

    Example:
        >>> import torch
        >>> q = torch.randn(2, 5, 3, dtype=torch.float64)
        >>> moved = random_transform("E(3)", q, 0)
        >>> bool(torch.allclose(torch.cdist(moved, moved), torch.cdist(q, q)))
        True
    """
    chosen = group(name_or_group) if isinstance(name_or_group, str) else name_or_group
    u = chosen.random((q.shape[0],), generator, dtype=q.dtype, device=q.device)
    return chosen.act(u[:, None], q)
