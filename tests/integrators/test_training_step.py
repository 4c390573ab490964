"""A training step through the reversible adjoint: its gradient, the gradient of that, an update of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, LieTransformer, Particles
from lie_sim.integrators import odeint

TIMES = torch.linspace(0, 0.3, 4, dtype=torch.float64)
STEP = {"step_size": 0.05}
UPDATE = 1e-10
"""Relative: the two adjoints, with a second derivative between; measured 1e-14."""


class Network:
    """V = Σ_i w₂·tanh(W₁ q_i), by its weights: those of a gradient step are no leaves."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first, second

    def force(self, q: Tensor) -> Tensor:
        hidden = torch.tanh(q @ self.first.T)
        return -((1 - hidden.square()) * self.second) @ self.first

    def velocity(self, p: Tensor) -> Tensor:
        return p


def network() -> tuple[Tensor, ...]:
    """Weights, initial positions and momenta, and what was observed."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    observed = draw(2, len(TIMES), 2, 2, 2)
    return *(x.requires_grad_(True) for x in (draw(3, 2), draw(3), draw(2, 2, 2), draw(2, 2, 2))), observed


def network_loss(
    first: Tensor, second: Tensor, q: Tensor, p: Tensor, observed: Tensor, *, method: str, adjoint: str
) -> Tensor:
    x, y = odeint(Network(first, second), (q, p), TIMES, method=method, options=STEP, adjoint=adjoint)
    return (x - observed[0]).square().mean() + (y - observed[1]).square().mean()


@pytest.mark.parametrize("adjoint", ["reversible", "checkpoint"])
@pytest.mark.parametrize("method", ["leapfrog", "pefrl"])
def test_first_and_second_derivatives_of_a_loss(method: str, adjoint: str) -> None:
    """With respect to weights and initial state, against finite differences."""
    *inputs, observed = network()
    loss = lambda *x: network_loss(*x, observed, method=method, adjoint=adjoint)  # noqa: E731
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_first_and_second_derivatives_with_a_lie_transformer() -> None:
    """The same for the model that is trained, its parameters in place."""
    torch.manual_seed(0)
    model = LieTransformer.default(width=4, num_heads=1, num_layers=1, kernel_hidden=4, num_frames=1).double()
    particles = Particles(masses=torch.tensor([[1.0, 2.0, 1.5]], dtype=torch.float64))
    q, p = (x.requires_grad_(True) for x in torch.randn(2, 1, 3, 2, dtype=torch.float64))
    dynamics = Hamiltonian(model).bind(particles)

    def loss(q: Tensor, p: Tensor, *_: Tensor) -> Tensor:
        x, y = odeint(dynamics, (q, p), TIMES[:2], method="leapfrog", options=STEP, adjoint="reversible")
        return x[1:].square().mean() + y[1:].sin().mean()

    found = torch.autograd.grad(loss(q, p), list(model.parameters()), allow_unused=True)
    acting = [x for x, slope in zip(model.parameters(), found, strict=True) if slope is not None]
    assert len(acting) > 5
    assert torch.autograd.gradcheck(loss, (q, p, *acting), fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, (q, p, *acting[::4]), fast_mode=True)


def after_an_update(adjoint: str) -> tuple[Tensor, ...]:
    """Slopes of the loss after one gradient step with respect to everything before it, its learning rate too."""
    first, second, q, p, observed = network()
    rate = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    run = {"method": "pefrl", "adjoint": adjoint}
    before = network_loss(first, second, q, p, observed, **run)
    slopes = torch.autograd.grad(before, (first, second), create_graph=True)
    updated = [x - rate * slope for x, slope in zip((first, second), slopes, strict=True)]
    return torch.autograd.grad(network_loss(*updated, q, p, observed, **run), (first, second, q, p, rate))


@pytest.mark.parametrize("adjoint", ["reversible", "checkpoint"])
def test_derivatives_of_the_loss_after_an_update(adjoint: str) -> None:
    """The second run depends on its own initial state through the weights that the first has changed."""
    for found, expected in zip(after_an_update(adjoint), after_an_update("autograd"), strict=True):
        error = float((found - expected).abs().max() / expected.abs().max())
        assert error < UPDATE, f"{error:.1e} > {UPDATE:.0e}"
