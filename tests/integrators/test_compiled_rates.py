"""Compiled forces and pull-backs: the gradient of the plain run; where there is none, clear words."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, LieTransformer, Particles
from lie_sim.integrators import Compiled, SystemDynamics, get_method, odeint, odeint_adjoint
from lie_sim.integrators.compiled_rates import _FUNCTIONS, compiled
from lie_sim.integrators.gradients import run
from lie_sim.integrators.rates import Slopes
from lie_sim.integrators.schedule import schedule
from lie_sim.neighbors import neighbour_matrix
from lie_sim.systems import Springs

EXACT = 1e-12
"""Of the largest slope, float64: the same operations, measured 0; compiled in another order, measured 2e-16."""
SINGLE = 1e-5
"""The same in float32, really compiled; measured 1e-7."""
TIMES = torch.tensor([0.0, 0.1, 0.15, 0.4], dtype=torch.float64)
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")


def three_bodies(
    potential: Any, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Any, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, p = (torch.randn(2, 3, 2, generator=generator, dtype=dtype) for _ in range(2))
    masses = 0.5 + torch.rand(2, 3, generator=generator, dtype=dtype)
    return Hamiltonian(potential).bind(Particles(masses=masses)), q, p


def slopes(dynamics: Any, q: Tensor, p: Tensor, leaves: Any, name: str, backend: str | None) -> Slopes:
    """Gradients of a loss at three times with respect to state, times and leaves."""
    inputs = [x.detach().clone().requires_grad_(True) for x in (q, p, TIMES)]
    method = get_method(name) if backend is None else Compiled(get_method(name), backend=backend)
    pieces = schedule(inputs[2], 0.05)
    x, y = run(method, method.dynamics(dynamics), inputs[0], inputs[1], pieces, adjoint="reversible")
    loss = (x * y).sum() + x[-1].square().sum() + y[0].sin().sum()
    return list(torch.autograd.grad(loss, [*inputs, *leaves], allow_unused=True))


def largest_error(found: Slopes, expected: Slopes) -> float:
    """Of the largest slope of each tensor; None, for a bias that moves nothing, must be None in both."""
    assert [x is None for x in found] == [x is None for x in expected]
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
    assert len(pairs) > 3  # state and times, and more
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", ["leapfrog", "position_verlet", "pefrl", "blanes_moan6"])
def test_the_gradient_of_the_plain_run(name: str, pair_potential: Any) -> None:
    dynamics, q, p = three_bodies(pair_potential)
    leaves = list(pair_potential.parameters())
    found, expected = (slopes(dynamics, q, p, leaves, name, backend) for backend in ("none", None))
    error = largest_error(found, expected)
    assert error < EXACT, f"{error:.1e} > {EXACT:.0e}"


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, EXACT), (torch.float32, SINGLE)])
def test_really_compiled(dtype: torch.dtype, tolerance: float, pair_potential: Any) -> None:
    """The LieTransformer is compiled by tests/training/test_rollout_task.py, which takes a minute."""
    model = pair_potential.to(dtype)
    dynamics, q, p = three_bodies(model, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a fall-back would compare nothing
        found = slopes(dynamics, q, p, list(model.parameters()), "leapfrog", "inductor")
    error = largest_error(found, slopes(dynamics, q, p, list(model.parameters()), "leapfrog", None))
    assert error < tolerance, f"{error:.1e} > {tolerance:.0e}"


def test_other_particles_and_weights_are_seen_by_the_same_functions(pair_potential: Any) -> None:
    """One compilation serves a training run: every batch has particles of its own, every update other weights."""
    leaves = list(pair_potential.parameters())
    for seed in range(3):
        dynamics, q, p = three_bodies(pair_potential, seed=seed)
        found, expected = (slopes(dynamics, q, p, leaves, "leapfrog", backend) for backend in ("none", None))
        assert largest_error(found, expected) < EXACT
        assert len(_FUNCTIONS[pair_potential]) == 2  # forth and back
        with torch.no_grad():
            for leaf in leaves:
                leaf.mul_(1.3)


def test_another_batch_size_gets_functions_of_its_own(pair_potential: Any) -> None:
    dynamics, q, p = three_bodies(pair_potential)
    leaves = list(pair_potential.parameters())
    slopes(dynamics, q, p, leaves, "leapfrog", "none")
    one = Hamiltonian(pair_potential).bind(dynamics._particles[:1])
    found, expected = (slopes(one, q[:1], p[:1], leaves, "leapfrog", backend) for backend in ("none", None))
    assert largest_error(found, expected) < EXACT
    assert len(_FUNCTIONS[pair_potential]) == 4


def test_weights_behind_the_velocity(pair_potential: Any) -> None:
    """Learned masses: the velocity is not compiled, and its leaves are not the force's."""
    torch.manual_seed(0)
    hamiltonian = Hamiltonian(pair_potential, masses="learned", num_attributes=1).double()
    bound, q, p = three_bodies(pair_potential)
    dynamics = hamiltonian.bind(replace(bound._particles, attributes=q[..., :1]))
    leaves = list(hamiltonian.parameters())
    found, expected = (slopes(dynamics, q, p, leaves, "leapfrog", backend) for backend in ("none", None))
    assert largest_error(found, expected) < EXACT


def test_particles_that_want_a_gradient() -> None:
    """As leaves they get it; with a graph behind them they are refused."""
    system = Springs(num_particles=3)
    state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
    masses = particles.masses.requires_grad_(True)
    dynamics = SystemDynamics(system, particles)
    found, expected = (slopes(dynamics, state.q, state.p, [masses], "leapfrog", b) for b in ("none", None))
    assert largest_error(found, expected) < EXACT
    computed = SystemDynamics(system, replace(particles, masses=2 * masses))
    with pytest.raises(ValueError, match=r"particles\.masses was computed from tensors that want gradients"):
        slopes(computed, state.q, state.p, [masses], "leapfrog", "none")


def test_gradients_of_gradients(pair_potential: Any) -> None:
    """By the plain run, as without compiling."""
    dynamics, q, p = three_bodies(pair_potential)
    method = Compiled(get_method("leapfrog"), backend="none")

    def call(q: Tensor, p: Tensor) -> Any:
        return odeint(dynamics, (q, p), TIMES, method=method, adjoint="reversible")

    inputs = (q.requires_grad_(True), p.requires_grad_(True))
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_through_both_doors(pair_potential: Any) -> None:
    dynamics, q, p = three_bodies(pair_potential)
    method = Compiled(get_method("leapfrog"), backend="none")
    plain = odeint(dynamics, (q, p), TIMES, method="leapfrog")[0]
    for door in (odeint_adjoint, lambda *y, **o: odeint(*y, adjoint="reversible", **o)):
        assert (door(dynamics, (q, p), TIMES, method=method)[0] - plain).abs().max() < EXACT
    with pytest.raises(ValueError, match='take a reversible method and adjoint="reversible"'):
        odeint(dynamics, (q, p), TIMES, method=Compiled(get_method("leapfrog"), block=1, backend="none"))


def test_a_compiler_that_fails_leaves_what_was_traced() -> None:
    with pytest.warns(RuntimeWarning, match=r"could not be compiled.*no such backend.*install one, set CXX"):
        double = compiled(lambda x: 2 * x, (torch.ones(2),), "no such backend")
    assert torch.equal(double(torch.ones(2)), torch.full((2,), 2.0))


def test_a_force_that_looks_at_numbers_is_refused() -> None:
    torch.manual_seed(0)
    model = Hamiltonian(LieTransformer.default(dim=2, width=8, num_heads=2, num_layers=1, cutoff=1.5))
    q = torch.rand(1, 4, 2, generator=torch.Generator().manual_seed(0))
    cell = Particles(
        masses=torch.ones(1, 4), cell=4 * torch.eye(2)[None], pbc=torch.ones(1, 2, dtype=torch.bool)
    )
    leaves = list(model.parameters())
    with pytest.raises(ValueError, match=r"searches neighbours at every call.*give them"):
        slopes(model.bind(cell), q, q, leaves, "leapfrog", "none")
    bound = model.bind(cell, neighbour_matrix(q, cell, cutoff=1.5))
    found, expected = (slopes(bound, q, q, leaves, "leapfrog", backend) for backend in ("none", None))
    assert largest_error(found, expected) < SINGLE
