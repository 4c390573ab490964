"""Tensors that a force depends on only later in a run: their gradient is right, or refused, never left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, Particles
from lie_sim.integrators import SystemDynamics, odeint
from lie_sim.integrators.leaves import held_tensors
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.systems import Springs

METHODS = ["leapfrog", "tao2", "nose_hoover_chain", "gauss4"]
FINITE_DIFFERENCES = 1e-7  # of a slope of 0.3, with increments of 1e-6; measured: up to 2e-10


class Wall(EnergyModel):
    """V = 5 k (x − 1)² where x > 1, looked at only then; k an attribute of the particle, or of the model."""

    def __init__(self, k: Tensor | None = None, *, registered: bool = False) -> None:
        super().__init__()
        self.register_buffer("k", k) if registered else setattr(self, "k", k)

    def forward(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Tensor:
        beyond = (q[..., 0] - 1).relu().square()
        if not bool((beyond > 0).any()):
            return 0 * q.sum(2)
        k = self.k if particles.attributes is None else particles.attributes[..., 0]
        return 5 * beyond * k


def end(a: Tensor, name: str, adjoint: str, *, held: str = "attribute") -> Tensor:
    """Where a particle ends that starts at 0.1137 a and meets a wall of strength a."""
    particles = Particles(masses=torch.ones_like(a[..., 0]), attributes=a if held == "attribute" else None)
    if held == "computed attribute":
        particles = Particles(masses=particles.masses, attributes=(a.log() * 2).exp().sqrt())
    model = {"buffer": Wall(1 * a[0, 0], registered=True), "plain": Wall(a[0, 0])}.get(held, Wall())
    t = torch.tensor([0.0, 1.5], dtype=torch.float64)
    options = {"method": name, "options": {"step_size": 0.1}, "adjoint": adjoint}
    q, _ = odeint(Hamiltonian(model).bind(particles), (0.1137 * a, torch.ones_like(a)), t, **options)
    return q[-1].sum()


def strength(value: float = 2.0) -> Tensor:
    return torch.full((1, 1, 1), value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("held", ["attribute", "computed attribute", "buffer"])
def test_what_the_system_holds_is_known_before_it_acts(name, held) -> None:
    with torch.no_grad():
        ends = [end(strength(2 + e), name, "autograd", held=held) for e in (1e-6, -1e-6)]
    expected = float(ends[0] - ends[1]) / 2e-6
    for adjoint in ("autograd", "reversible", "checkpoint"):
        a = strength()
        (slope,) = torch.autograd.grad(end(a, name, adjoint, held=held), a)
        error = abs(float(slope) - expected)
        assert error < FINITE_DIFFERENCES, f"{adjoint}: {error:.1e}"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("adjoint", ["autograd", "reversible", "checkpoint"])
def test_anything_else_is_refused_also_in_a_module(name, adjoint) -> None:
    a = strength()
    x = end(a, name, adjoint, held="plain")
    if adjoint == "autograd" and name != "gauss4":  # the graph of every step is there: nothing can be missed
        assert x.requires_grad
        return
    with pytest.raises(
        RuntimeError, match=r"did not depend on at the start of the run.*parameters or buffers"
    ):
        x.backward()


def test_tensors_of_an_exact_system_are_known() -> None:
    _, particles = Springs(num_particles=3).sample(1, generator=torch.Generator().manual_seed(0))
    particles.attributes.requires_grad_(True)
    (found,) = held_tensors(SystemDynamics(Springs(num_particles=3), particles))
    assert found is particles.attributes
