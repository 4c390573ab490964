"""Compiled blocks follow whatever stands in the place of what they were traced with."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lie_sim import Hamiltonian, Particles
from lie_sim.integrators import Compiled, advance, get_method
from lie_sim.integrators.compiled import _BLOCKS
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix

ROUND_OFF = 1e-6  # float32; measured: 0
FAST = Compiled(get_method("leapfrog"), block=4, backend="none")


class Well(EnergyModel):
    """Σ tanh(W x + b) · scale, twice of it in training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh())
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Tensor:
        return self.net(q).sum(-1).float() * self.scale * (2.0 if self.training else 1.0)


class Own:
    """An object that holds a module and a tensor."""

    def __init__(self) -> None:
        self.net, self.k = nn.Linear(2, 2), torch.tensor(2.0)

    def force(self, q: Tensor) -> Tensor:
        return -self.k * self.net(q)

    def velocity(self, p: Tensor) -> Tensor:
        return p


def bound() -> Hamiltonian:
    torch.manual_seed(0)
    return Hamiltonian(Well()).bind(Particles(masses=torch.ones(2, 3)))


def state() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    q, p = (torch.randn(2, 3, 2, generator=generator) for _ in range(2))
    return q, p


def end(dynamics, method) -> Tensor:
    with torch.no_grad():
        return advance(dynamics, *state(), step_size=0.05, num_steps=8, method=method)[0]


def assert_followed(dynamics, change: Callable[[], object]) -> None:
    before = end(dynamics, FAST)
    change()
    found, expected = end(dynamics, FAST), end(dynamics, "leapfrog")
    assert (expected - before).abs().max() > 100 * ROUND_OFF, "the change changes nothing"
    assert (found - expected).abs().max() < ROUND_OFF


def other(x: Tensor) -> Tensor:
    return 1.5 * x.detach() + 0.1


def assign_state(H: Hamiltonian) -> None:
    H.load_state_dict({k: other(x) for k, x in H.state_dict().items()}, assign=True)


CHANGES = {
    "assigned state": assign_state,
    "loaded state": lambda H: H.load_state_dict({k: other(x) for k, x in H.state_dict().items()}),
    "parameter": lambda H: setattr(
        H.potential.net[0], "weight", nn.Parameter(other(H.potential.net[0].weight))
    ),
    "buffer": lambda H: setattr(H.potential, "scale", other(H.potential.scale)),
    "submodule": lambda H: setattr(H.potential, "net", nn.Linear(2, 4)),
    "activation": lambda H: H.potential.net.__setitem__(1, nn.SiLU()),
    "potential": lambda H: setattr(H, "potential", Well()),
    "evaluation": lambda H: H.eval(),
    "particles": lambda H: (
        setattr(H, "_velocity", None) or setattr(H, "_particles", Particles(masses=3 * torch.ones(2, 3)))
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_of_a_bound_model(change) -> None:
    torch.manual_seed(2)
    H = bound()
    assert_followed(H, lambda: change(H))


@pytest.mark.parametrize("name", ["net", "k"])
def test_changes_of_an_object_of_ones_own(name) -> None:
    torch.manual_seed(0)
    own = Own()
    assert_followed(own, lambda: setattr(own, name, {"net": nn.Linear(2, 2), "k": torch.tensor(3.0)}[name]))
    assert_followed(own, lambda: setattr(own.net, "bias", nn.Parameter(torch.ones(2))))


def test_autocast_is_followed() -> None:
    """Traced under it first, a block has the casts in it."""
    H = bound().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = end(H, FAST), end(H, "leapfrog")
    assert (found - expected).abs().max() < ROUND_OFF
    plain = end(H, "leapfrog")
    assert (expected - plain).abs().max() > 100 * ROUND_OFF
    assert (end(H, FAST) - plain).abs().max() < ROUND_OFF


def test_the_same_block_serves_again() -> None:
    H = bound()
    for mode in (True, False, True, False):
        H.train(mode)
        end(H, FAST)
        end(copy.copy(H), "leapfrog")
    assert len(_BLOCKS[H]) == 2


def test_blocks_that_are_out_of_use_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table without end in a training that replaces its weights, and none that keeps the dynamics alive."""
    H = bound()
    alive = weakref.ref(H)
    monkeypatch.setattr("lie_sim.integrators.compiled.MOST_BLOCKS", 3)
    for _ in range(5):
        assign_state(H)
        end(H, FAST)
    assert len(_BLOCKS[H]) == 3
    del H
    gc.collect()
    assert alive() is None
