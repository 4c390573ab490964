"""A LieTransformer as an energy: its forces, and the motion they make.

The model is not trained, so its world is a random one; everything here works the same for a model that has
learned springs, planets or molecules.
"""

from __future__ import annotations

import torch
from torchdiffeq import odeint

from lie_sim import Hamiltonian, LieTransformer, Particles, PhaseState
from lie_sim.integrators import integrate
from lie_sim.models import parameter_count

NUM_STEPS = 100
TIME = 5.0


def main() -> None:
    torch.manual_seed(0)
    model = LieTransformer.default(dim=3, num_layers=1).double()
    print(
        f"a potential energy with {parameter_count(model):,} parameters, invariant under {model.equivariant_under}"
    )

    # Four systems of five particles. `bind` makes the Hamiltonian a function of (t, (q, p)) alone.
    particles = Particles(masses=torch.ones(4, 5, dtype=torch.float64))
    q = torch.randn(4, 5, 3, dtype=torch.float64)
    p = torch.zeros_like(q)
    H = Hamiltonian(model).bind(particles)

    with torch.no_grad():  # no graph through the trajectories: faster
        force = H.force(q)
        print(f"forces: shape {tuple(force.shape)}; they sum to zero, since moving everything costs nothing:")
        print(f"    largest net force {force.sum(1).abs().max():.1e}, largest force {force.abs().max():.2f}")

        # torchdiffeq takes the Hamiltonian as it is; lie_sim.integrators adds symplectic methods.
        times = torch.linspace(0.0, TIME, NUM_STEPS + 1, dtype=torch.float64)
        paths = {
            "torchdiffeq, rk4": [x.transpose(0, 1) for x in odeint(H, (q, p), times, method="rk4")],
            "leapfrog": integrate(
                H, q, p, step_size=TIME / NUM_STEPS, num_steps=NUM_STEPS, method="leapfrog"
            ),
        }
        start = H.energy(PhaseState(q=q, p=p))
        print(f"energy error after {NUM_STEPS:,} steps up to t = {TIME:g}, and how far the particles went:")
        for name, (qs, ps) in paths.items():
            end = H.energy(PhaseState(q=qs[:, -1], p=ps[:, -1]))
            print(
                f"    {name:18s} {(end - start).abs().max():.1e}    {(qs[:, -1] - q).norm(dim=-1).mean():.2f}"
            )


if __name__ == "__main__":
    main()
