r"""Powers of directions: all products of up to L components of a vector, one for each set of components.

    Y(u) = (1, u, u ⊗ u, …, u^⊗L),     Y^l(a)·Y^l(b) = (a·b)^l

with the root of the number of orders in which the components can stand before each product, P = C(d + L, L) in all.
Each order holds the representations of degree l, l − 2, … of O(d); together they are all up to degree L.

Shape letters: d space dimension, P products.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.lifting.exact import Exact


def products(dim: int, order: int) -> list[tuple[int, ...]]:
    """Components of each product of that order.

    Example:
        >>> products(2, 2)
        [(0, 0), (0, 1), (1, 1)]
    """
    return list(itertools.combinations_with_replacement(range(dim), order))


def orders_of_products(dim: int, largest: int) -> Float[Tensor, "orders P"]:
    """1 where a product is of that order, else 0.

    Example:
        >>> orders_of_products(1, 2)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    counts = torch.tensor([len(products(dim, order)) for order in range(largest + 1)])
    number = torch.arange(largest + 1).repeat_interleave(counts)
    return nn.functional.one_hot(number, largest + 1).T.to(torch.get_default_dtype())


def _arrangements(product: tuple[int, ...]) -> int:
    """In how many orders the components of a product can stand."""
    return math.factorial(len(product)) // math.prod(math.factorial(n) for n in Counter(product).values())


class DirectionPowers(nn.Module):
    """Y; see the module's equation.

    Args:
        dim: d.
        largest: L.

    Example:
        >>> powers = DirectionPowers(3, 4)
        >>> a, b = torch.tensor([0.6, 0.0, 0.8]), torch.tensor([0.0, 0.6, 0.8])
        >>> powers(a).shape, round(float(powers(a) @ powers(b)), 4)  # Σ 0.64^l
        (torch.Size([35]), 2.4795)
    """

    def __init__(self, dim: int, largest: int) -> None:
        super().__init__()
        self.dim, self.largest = dim, largest
        self.roots = nn.ModuleList()
        for order in range(1, largest + 1):
            shorter = {product: place for place, product in enumerate(products(dim, order - 1))}
            made = products(dim, order)
            parent = torch.tensor([shorter[product[:-1]] for product in made])
            added = torch.tensor([product[-1] for product in made])
            roots = [math.sqrt(_arrangements(p) / _arrangements(p[:-1])) for p in made]
            self.register_buffer(f"parent_{order}", parent, persistent=False)
            self.register_buffer(f"added_{order}", added, persistent=False)
            self.roots.append(Exact(torch.tensor(roots, dtype=torch.float64)))

    def forward(self, u: Float[Tensor, "*s d"]) -> Float[Tensor, "*s P"]:
        """All products of every vector."""
        found = [torch.ones_like(u[..., :1])]
        for order, root in enumerate(self.roots, start=1):
            parent, added = getattr(self, f"parent_{order}"), getattr(self, f"added_{order}")
            found.append(found[-1][..., parent] * u[..., added] * root(u))
        return torch.cat(found, dim=-1)
