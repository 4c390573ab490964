"""The splitting methods of the literature, one row each: its coefficients and where they come from.

Each row states what is published; what follows from it (the middle value that makes the sum 1, the mirrored half) is
computed. The tests measure the order of every row, and that a changed digit breaks it.
"""

from __future__ import annotations

from lie_sim.integrators.splitting import SplittingMethod, composed_leapfrog


def _palindrome(half: tuple[float, ...], *, odd: bool) -> tuple[float, ...]:
    """Mirror the published half; ``odd``: one middle value, else two, that make the sum 1.

    Example:
        >>> _palindrome((0.1,), odd=True), _palindrome((0.1,), odd=False)
        ((0.1, 0.8, 0.1), (0.1, 0.4, 0.4, 0.1))
    """
    rest = 1.0 - 2.0 * sum(half)
    middle = (rest,) if odd else (rest / 2, rest / 2)
    return (*half, *middle, *reversed(half))


def _composition(name: str, order: int, half: tuple[float, ...], citation: str) -> SplittingMethod:
    """Leapfrog steps of lengths w_i h, given the first half of the weights."""
    kicks, drifts = composed_leapfrog(_palindrome(half, odd=True))
    return SplittingMethod(name=name, order=order, kicks=kicks, drifts=drifts, citation=citation)


_XI, _LAMBDA, _CHI = 0.1786178958448091, -0.2123418310626054, -0.06626458266981849

SPLITTING_METHODS = (
    SplittingMethod(
        name="symplectic_euler",
        order=1,
        kicks=(1.0,),
        drifts=(1.0,),
        citation="de Vogelaere, report 4, Notre Dame (1956); Hairer, Lubich, Wanner (2006), section VI.3",
        reversible=False,
    ),
    SplittingMethod(
        name="leapfrog",
        order=2,
        kicks=(0.5, 0.5),
        drifts=(1.0,),
        citation="Verlet, Phys. Rev. 159 (1967) 98; kick-drift-kick form (velocity Verlet): "
        "Swope et al., J. Chem. Phys. 76 (1982) 637",
    ),
    SplittingMethod(
        name="position_verlet",
        order=2,
        kicks=(1.0,),
        drifts=(0.5, 0.5),
        citation="Tuckerman, Berne, Martyna, J. Chem. Phys. 97 (1992) 1990",
    ),
    _composition(
        "yoshida4",
        4,
        (1.0 / (2.0 - 2.0 ** (1.0 / 3.0)),),
        "Forest, Ruth, Physica D 43 (1990) 105; Yoshida, Phys. Lett. A 150 (1990) 262",
    ),
    SplittingMethod(
        name="pefrl",
        order=4,
        kicks=(0.5 - _LAMBDA, _LAMBDA, _LAMBDA, 0.5 - _LAMBDA),
        drifts=(_XI, _CHI, 1.0 - 2.0 * (_CHI + _XI), _CHI, _XI),
        citation="Omelyan, Mryglod, Folk, Comput. Phys. Commun. 146 (2002) 188",
    ),
    SplittingMethod(
        name="blanes_moan4",
        order=4,
        kicks=_palindrome((0.0792036964311957, 0.353172906049774, -0.0420650803577195), odd=True),
        drifts=_palindrome((0.209515106613362, -0.143851773179818), odd=False),
        citation="Blanes, Moan, J. Comput. Appl. Math. 142 (2002) 313, method S6 of order 4",
    ),
    _composition(
        "yoshida6",
        6,
        (0.78451361047755726382, 0.23557321335935813368, -1.17767998417887100695),
        "Yoshida, Phys. Lett. A 150 (1990) 262, solution A",
    ),
    _composition(
        "kahan_li6",
        6,
        (0.39216144400731413928, 0.33259913678935943860, -0.70624617255763935981, 0.08221359629355080023),
        "Kahan, Li, Math. Comp. 66 (1997) 1089, s9odr6a",
    ),
    SplittingMethod(
        name="blanes_moan6",
        order=6,
        kicks=_palindrome(
            (
                0.0502627644003922,
                0.413514300428344,
                0.0450798897943977,
                -0.188054853819569,
                0.541960678450780,
            ),
            odd=True,
        ),
        drifts=_palindrome(
            (0.148816447901042, -0.132385865767784, 0.067307604692185, 0.432666402578175), odd=False
        ),
        citation="Blanes, Moan, J. Comput. Appl. Math. 142 (2002) 313, method S10 of order 6",
    ),
    _composition(
        "kahan_li8",
        8,
        (
            0.13020248308889008088,
            0.56116298177510838456,
            -0.38947496264484728641,
            0.15884190655515560090,
            -0.39590389413323757734,
            0.18453964097831570709,
            0.25837438768632204729,
            0.29501172360931029887,
        ),
        "Kahan, Li, Math. Comp. 66 (1997) 1089, s17odr8a",
    ),
)
