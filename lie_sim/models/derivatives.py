"""Energies, forces and stress of a batch of atoms by one reverse pass.

    F_i = −∂E/∂q_i
    σ = (1/V) Σ_i σ_i,      σ_i = sym Σ_k r_ik ⊗ ∂E/∂r_ik

The derivative with respect to a pair vector is that with respect to the shift of its periodic image, so the stress of
every atom comes from the same pass as the forces. σ is dE/dε over the volume: positive under tension, as in ASE.

Shape letters: B batch, N particles, K neighbours, d space dimension.
The derivatives of properties come from as many passes as a property has numbers.

Reference: Thompson, Plimpton, Mattson, J. Chem. Phys. 131 (2009) 154107 (virial by atom).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.activations import differentiated_once
from lie_sim.lifting.base import pair_vectors
from lie_sim.models.atomic import AtomicPotential
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


@dataclass(frozen=True)
class Evaluation:
    """What was computed.

    Args:
        energies: of the atoms in eV, float64, shape (B, N).
        forces: in eV/Å, shape (B, N, 3).
        virials: V σ_i of the atoms in eV, symmetric, shape (B, N, 3, 3); None if not asked for.
        properties: what the heads tell, by name, float64: shape (B,) for a number, (B, 3) for a dipole in e Å,
            (B, 3, 3) for a polarizability in Å³, (B, N) for charges in e; empty without heads.
    """

    energies: Float[Tensor, "B N"]
    forces: Float[Tensor, "B N 3"]
    virials: Float[Tensor, "B N 3 3"] | None = None
    properties: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def energy(self) -> Float[Tensor, " B"]:
        """Of the systems in eV, float64, shape (B,)."""
        return self.energies.sum(-1)


def evaluate(
    potential: AtomicPotential,
    q: Float[Tensor, "B N 3"],
    particles: Particles,
    neighbours: NeighbourMatrix | None = None,
    *,
    virials: bool = False,
    create_graph: bool = False,
) -> Evaluation:
    """Energies, forces and properties, and virials if wanted; energies and forces are NaN if the model has none.

    Args:
        potential: the energy.
        q: positions in Å, shape (B, N, 3).
        particles: species are atomic numbers.
        neighbours: which pairs interact; None means all of them.
        virials: whether to compute them; they need neighbours.
        create_graph: whether the results can be differentiated by the weights, as training does.

    Raises:
        ValueError: virials without neighbours.

    Example:
        >>> potential = AtomicPotential.default(elements=(1,))
        >>> two = Particles(masses=torch.ones(1, 2), species=torch.ones(1, 2, dtype=torch.long))
        >>> found = evaluate(potential, torch.tensor([[[0.0, 0, 0], [0, 0, 0.8]]]), two)
        >>> bool(found.forces.sum().abs() < 1e-6), found.energies.shape
        (True, torch.Size([1, 2]))
    """
    if virials and neighbours is None:
        raise ValueError("virials are made from pair vectors: give neighbours, with all pairs if need be")
    with torch.enable_grad(), nullcontext() if create_graph else differentiated_once():
        x = q.detach().requires_grad_(True)
        wanted = [x]
        if virials:
            assert neighbours is not None
            neighbours = replace(neighbours, shift=_shift_leaf(neighbours, q))
            assert neighbours.shift is not None
            wanted.append(neighbours.shift)
        energies, properties = potential.outputs(x, particles, neighbours)
        slopes = [
            torch.zeros_like(y) if potential.has_energy else torch.full_like(y, torch.nan) for y in wanted
        ]
        if energies.requires_grad:
            slopes = list(
                torch.autograd.grad(energies.sum(), wanted, create_graph=create_graph, materialize_grads=True)
            )
        if not create_graph:
            energies = energies.detach()
            properties = {name: value.detach() for name, value in properties.items()}
        found = Evaluation(energies, -slopes[0], properties=properties)
        if not virials:
            return found
        assert neighbours is not None
        return replace(found, virials=_virials(q.detach(), neighbours, slopes[1]))


def property_jacobian(
    potential: AtomicPotential,
    name: str,
    q: Float[Tensor, "B N 3"],
    particles: Particles,
    neighbours: NeighbourMatrix | None = None,
    *,
    create_graph: bool = False,
) -> Float[Tensor, "B N 3 *s"]:
    """∂y/∂q_i of a property y of the systems, such as the dipole: what infrared and Raman intensities are made of.

    One reverse pass for each number that y has; systems of a batch do not mix. Those of a dipole are the Born effective
    charges.

    Args:
        potential: the model.
        name: one of ``potential.properties``, not charges, which belong to atoms.
        q: positions in Å, shape (B, N, 3).
        particles: species are atomic numbers.
        neighbours: which pairs interact; None means all of them.
        create_graph: whether the result can be differentiated by the weights.

    Returns:
        Shape (B, N, 3, …), the shape of one property last; float64. For a dipole ``[b, i, c, a]`` is ∂μ_a/∂q_ic in e.

    Raises:
        ValueError: the model does not tell it, or it is one of atoms.

    Example:
        >>> from lie_sim.models import heads
        >>> potential = AtomicPotential.default(elements=(1,), heads=heads("dipole"))
        >>> two = Particles(masses=torch.ones(1, 2), species=torch.ones(1, 2, dtype=torch.long))
        >>> q = torch.tensor([[[0.0, 0, 0], [0, 0, 0.8]]])
        >>> property_jacobian(potential, "dipole", q, two).shape
        torch.Size([1, 2, 3, 3])
    """
    if name not in potential.properties:
        known = ", ".join(potential.properties) or "nothing but the energy"
        raise ValueError(f"this model tells {known}, not {name!r}")
    if potential.config.heads[name].kind == "charges":
        raise ValueError("a Jacobian is that of a property of the whole system, and charges belong to atoms")
    with torch.enable_grad():
        x = q.detach().requires_grad_(True)
        _, properties = potential.outputs(x, particles, neighbours)
        value = properties[name]
        columns = value.reshape(len(q), -1).sum(0)
        slopes = [
            torch.autograd.grad(
                column, x, retain_graph=True, create_graph=create_graph, materialize_grads=True
            )[0].double()
            for column in columns
        ]
    return torch.stack(slopes, -1).reshape(*q.shape, *value.shape[1:])


def _shift_leaf(neighbours: NeighbourMatrix, q: Tensor) -> Float[Tensor, "B N K 3"]:
    """The shifts as a new variable, zeros where there are none."""
    shift = neighbours.shift if neighbours.shift is not None else q.new_zeros(*neighbours.index.shape, 3)
    return shift.to(q.dtype).detach().requires_grad_(True)


def _virials(q: Tensor, neighbours: NeighbourMatrix, slopes: Tensor) -> Float[Tensor, "B N 3 3"]:
    assert neighbours.shift is not None
    fixed = replace(neighbours, shift=neighbours.shift.detach())
    vectors = torch.where(neighbours.mask[..., None], pair_vectors(q, fixed), 0.0)
    product = torch.einsum("bnka,bnkc->bnac", vectors, slopes)
    return (product + product.mT) / 2
