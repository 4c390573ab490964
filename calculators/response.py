"""How the dipole answers to the positions: Born effective charges, from which infrared intensities follow.

    Z*_iab = ∂μ_a/∂r_ib,        Σ_i Z*_iab = Q δ_ab        (Q: total charge)

Here μ is taken about a fixed point. The dipole of an ion that a model tells is that about its centre of nuclear charge
c = Σ Z_i r_i / Σ Z_i, which moves along: the derivative of Q c is added.

Shape letters: B batch, N atoms; a is the direction of the dipole, b that of the displacement.
Reference: Gonze, Lee, Phys. Rev. B 55 (1997) 10355.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.models import AtomicPotential
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


def born_charges(
    potential: AtomicPotential,
    q: Float[Tensor, "B N 3"],
    particles: Particles,
    neighbours: NeighbourMatrix | None = None,
) -> Float[Tensor, "B N 3 3"]:
    """Derivatives of the dipole by the positions, in e.

    Args:
        potential: with a head called "dipole".
        q: positions in Å, shape (B, N, 3).
        particles: of the systems.
        neighbours: which pairs interact; None means all of them.

    Example:
        >>> from lie_sim.models import heads
        >>> potential = AtomicPotential.default(elements=(1,), heads=heads("dipole"))
        >>> two = Particles(masses=torch.ones(1, 2), species=torch.ones(1, 2, dtype=torch.long))
        >>> born_charges(potential, torch.tensor([[[0.0, 0, 0], [0, 0, 0.8]]]), two).shape
        torch.Size([1, 2, 3, 3])
    """
    with torch.enable_grad():
        x = q.detach().requires_grad_(True)
        dipole = potential.outputs(x, particles, neighbours)[1]["dipole"]
        rows = [
            torch.autograd.grad(dipole[:, a].sum(), x, retain_graph=True, materialize_grads=True)[0]
            for a in range(3)
        ]
    return torch.stack(rows, dim=2) + _of_the_centre(potential, particles).to(q)


def _of_the_centre(potential: AtomicPotential, particles: Particles) -> Tensor:
    """Q ∂c_a/∂r_ib = Q Z_i / Σ Z δ_ab, shape (B, N, 3, 3), or 0."""
    inputs = potential.config.inputs
    if "charge" not in inputs:
        return torch.zeros(1)
    assert particles.attributes is not None
    assert particles.species is not None
    numbers = particles.species.double()
    weights = numbers / numbers.sum(1, keepdim=True)  # padding has the number 0
    each = particles.attributes[..., inputs.index("charge")] * weights
    return each[..., None, None] * torch.eye(3, dtype=each.dtype, device=each.device)
