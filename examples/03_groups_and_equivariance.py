"""Groups, their logarithms, and how invariant three liftings are.

Soft frames and finite groups are exact. Random lifts, the published way to SE(3), are invariant on average only.
"""

from __future__ import annotations

import torch

from lie_sim import LieTransformer, Particles
from lie_sim.experiments.symmetry import invariance_error
from lie_sim.groups import SE3, group

MODELS = {
    "soft frames": ("E(3)", {"lifting": "frame"}),
    "soft frames, chirality": ("SE(3)", {"lifting": "frame", "chirality": True}),
    "octahedral group": ("T(3)xO", {"lifting": "finite", "group": "O"}),
    "4 random lifts of SE(3)": ("SE(3)", {"lifting": "haar", "group": "SE(3)", "num_lifts": 4}),
}


def logarithms() -> None:
    """The logarithm and its gradient near the identity, where the textbook formula divides zero by zero."""
    se3 = group("SE(3)")
    assert isinstance(se3, SE3)
    print("SE(3): error of log(exp(x)) and largest gradient of |log u|², by rotation angle")
    for angle in (0.0, 1e-6, 1.0, torch.pi - 1e-4):
        coordinates = torch.tensor([angle, 0.0, 0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
        element = se3.exp(coordinates).requires_grad_(True)
        error = (se3.log(element) - coordinates).abs().max()
        gradient = torch.autograd.grad(se3.log(element).square().sum(), element)[0]
        print(f"    {angle:10.6f}   {error:.1e}   {gradient.abs().max():8.3g}")


def main() -> None:
    logarithms()
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(16, 6, 3, dtype=torch.float64, generator=generator)
    particles = Particles(masses=torch.rand(16, 6, dtype=torch.float64, generator=generator) + 0.5)
    print("\nchange of the energy under a random element, in units of its spread over geometries (float64)")
    for name, (symmetry, options) in MODELS.items():
        torch.manual_seed(0)
        model = LieTransformer.default(dim=3, num_layers=1, **options).double()
        error = invariance_error(model, symmetry, q, particles)
        print(f"    {name:24s} {symmetry:7s} {error:.1e}")


if __name__ == "__main__":
    main()
