"""Forces computed again for a gradient find the same autocast, draw no random numbers, and must be the same."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn

from lie_sim.errors import ReversalError
from lie_sim.integrators import odeint

AGAIN = ["reversible", "checkpoint"]
METHODS = ["leapfrog", "implicit_midpoint_h"]  # stepped back by their flows, and by whole steps
BFLOAT16_ROUNDING = 0.03  # sums of 20 steps in another order; measured: 7e-3 to 1.3e-2, rounding unit 3.9e-3


class NetworkForce(nn.Module):
    """A small network as force, which notes the autocast that it is called under."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 6))
        self.seen: list[bool] = []

    def force(self, q: Tensor) -> Tensor:
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return self.network(q.flatten(1)).reshape(q.shape)

    def velocity(self, p: Tensor) -> Tensor:
        return p


def start() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    q, p = (torch.randn(2, 3, 2, generator=generator) for _ in range(2))
    return q.requires_grad_(True), p


def autocast(enabled: bool) -> contextlib.AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if enabled else contextlib.nullcontext()


def slopes(force: NetworkForce, method: str, adjoint: str, *, forward: bool, backward: bool) -> list[Tensor]:
    q, p = start()
    with autocast(forward):
        x, _ = odeint(force, (q, p), torch.linspace(0, 1, 21), method=method, adjoint=adjoint)
    loss = x[-1].square().sum()
    force.seen.clear()
    with autocast(backward):
        return list(torch.autograd.grad(loss, [q, *force.parameters()]))


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("adjoint", AGAIN)
@pytest.mark.parametrize("method", METHODS)
def test_autocast_of_the_run_is_that_of_its_gradient(method: str, adjoint: str, forward: bool) -> None:
    """Whatever the backward pass is called under; another precision is another force."""
    force = NetworkForce()
    found = slopes(force, method, adjoint, forward=forward, backward=not forward)
    assert force.seen
    assert set(force.seen) == {forward}
    expected = slopes(NetworkForce(), method, "autograd", forward=forward, backward=forward)
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
    assert worst < BFLOAT16_ROUNDING


@pytest.mark.parametrize("adjoint", AGAIN)
@pytest.mark.parametrize("method", ["leapfrog", "tao2"])
def test_dropout_is_refused(method: str, adjoint: str) -> None:
    """It gave a gradient of another force, 17 % off, under "checkpoint"."""
    force, (q, p) = NetworkForce(dropout=0.3), start()
    t = torch.linspace(0, 0.1, 3)
    with pytest.raises(ValueError, match=r"the force draws random numbers \(dropout\?\)"):
        odeint(force, (q, p), t, method=method, adjoint=adjoint)
    x, _ = odeint(force.eval(), (q, p), t, method=method, adjoint=adjoint)
    assert torch.autograd.grad(x.sum(), q)[0].isfinite().all()


class Counting:
    """Another spring at every call, without random numbers."""

    def __init__(self) -> None:
        self.calls = 0

    def force(self, q: Tensor) -> Tensor:
        self.calls += 1
        return -(1 + 0.01 * self.calls) * q

    def velocity(self, p: Tensor) -> Tensor:
        return p


def test_checkpoint_notices_a_force_that_is_not_the_same_twice() -> None:
    q, p = start()
    x, _ = odeint(Counting(), (q, p), torch.linspace(0, 1, 11), method="leapfrog", adjoint="checkpoint")
    with pytest.raises(ReversalError, match="computed again ended elsewhere for 2 systems"):
        x.sum().backward()


class Shaped:
    """A force of any shape."""

    def __init__(self, force, velocity=lambda p: p) -> None:
        self.force, self.velocity = force, velocity
        self.masses = torch.ones(2, 3)


@pytest.mark.parametrize("adjoint", ["autograd", *AGAIN])
@pytest.mark.parametrize("method", ["leapfrog", "position_verlet", "nose_hoover_chain"])
@pytest.mark.parametrize(
    "force",
    [lambda q: -q[:1], lambda q: -q.sum(), lambda q: -q.expand(2, *q.shape), lambda q: q[..., :1]],
    ids=["one system", "a number", "more axes", "one direction"],
)
def test_a_force_of_another_shape_is_named(force, method: str, adjoint: str) -> None:
    """Broadcasting accepted it in silence."""
    q, p = start()
    with pytest.raises(TypeError, match=r"force\(q\) must have the shape of its argument, \(2, 3, 2\); got"):
        odeint(Shaped(force), (q, p), torch.linspace(0, 1, 3), method=method, adjoint=adjoint)


def test_a_velocity_of_another_shape_is_named() -> None:
    q, p = start()
    dynamics = Shaped(lambda q: -q, lambda p: p[:, :1])
    with pytest.raises(TypeError, match=r"velocity\(p\) must have the shape"):
        odeint(dynamics, (q, p), torch.linspace(0, 1, 3), method="leapfrog")
