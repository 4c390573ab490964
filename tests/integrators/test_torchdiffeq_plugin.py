"""Registration: explicit, repeatable, reversible, never over somebody else's solver; and never a wrong gradient."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
import torchdiffeq
from torch import nn
from torchdiffeq._impl.odeint import SOLVERS

from lie_sim import Hamiltonian, Particles
from lie_sim.integrators import (
    SystemDynamics,
    methods,
    odeint,
    register_torchdiffeq,
    splitting_methods,
    unregister_torchdiffeq,
)
from lie_sim.systems import Springs

ROUND_OFF = 1e-13


@pytest.fixture(autouse=True)
def registered():
    unregister_torchdiffeq()  # whatever ran before in this process
    before = dict(SOLVERS)
    added = register_torchdiffeq()
    yield added
    unregister_torchdiffeq()
    assert before == SOLVERS


def springs():
    state, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(1))
    return (state.q, state.p), SystemDynamics(Springs(num_particles=3), particles)


def test_all_names_are_there_once(registered) -> None:
    assert {method.name for method in methods()} < set(registered)
    assert "velocity_verlet" in registered
    assert register_torchdiffeq() == ()


def test_importing_registers_nothing() -> None:
    program = "import lie_sim.integrators; from torchdiffeq._impl.odeint import SOLVERS; print('leapfrog' in SOLVERS)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", [method.name for method in splitting_methods()])
@pytest.mark.parametrize("end", [1.0, -1.0])
def test_same_numbers_as_the_own_door(name, end) -> None:
    y0, dynamics = springs()
    t = torch.linspace(0, end, 4, dtype=torch.float64)
    options = {"method": name, "options": {"step_size": 0.02}}
    theirs, ours = torchdiffeq.odeint(dynamics, y0, t, **options), odeint(dynamics, y0, t, **options)
    assert max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True)) < ROUND_OFF


def test_gradient_through_the_steps_is_exact() -> None:
    y0, dynamics = springs()
    t = torch.linspace(0, 0.3, 4, dtype=torch.float64)

    def run(q, p):
        return torchdiffeq.odeint(dynamics, (q, p), t, method="leapfrog")

    assert torch.autograd.gradcheck(run, [x.clone().requires_grad_(True) for x in y0])


@pytest.mark.parametrize("name", ["leapfrog", "yoshida4"])
def test_the_generic_adjoint_raises_instead_of_being_wrong(name, pair_potential) -> None:
    """A splitting of torchdiffeq's augmented system runs without complaint and is 14 % off."""
    bound = Hamiltonian(pair_potential).bind(Particles(masses=torch.ones(1, 3, dtype=torch.float64)))
    q = torch.randn(
        1, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    x, _ = torchdiffeq.odeint_adjoint(bound, (q, torch.zeros_like(q)), t, method=name)
    with pytest.raises(TypeError, match="augmented system of a continuous adjoint"):
        x.sum().backward()


def test_another_adjoint_method_is_refused_and_ours_of_no_other_solver() -> None:
    """Gradients of torchdiffeq's steps are not those of ours: dopri5 3 % off, euler 0."""
    y0, dynamics = springs()
    q = y0[0].clone().requires_grad_(True)
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    run = {"method": "leapfrog", "adjoint_params": ()}
    for adjoint in ("dopri5", "rk4", "euler"):
        with pytest.raises(ValueError, match=f"adjoint_method='{adjoint}' would give gradients"):
            torchdiffeq.odeint_adjoint(dynamics, (q, y0[1]), t, adjoint_method=adjoint, **run)
    plain = torchdiffeq.odeint_adjoint(dynamics, (q, y0[1]), t, method="rk4", adjoint_params=())
    assert plain[0].requires_grad


def test_what_is_wrong_is_named() -> None:
    y0, dynamics = springs()
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"needs y0 = \(q, p\)"):
        torchdiffeq.odeint(dynamics, torch.cat(y0), t, method="leapfrog")
    with pytest.raises(ValueError, match="leapfrog has no option stepsize; its options are step_size"):
        torchdiffeq.odeint(dynamics, y0, t, method="leapfrog", options={"stepsize": 0.1})
    with pytest.raises(TypeError, match=r"no force"):
        torchdiffeq.odeint(lambda t, y: y, y0, t, method="leapfrog")
    with pytest.raises(ValueError, match="has its own events"):
        torchdiffeq.odeint(
            dynamics,
            y0,
            t[:2],
            method="leapfrog",
            event_fn=lambda t, y: y[0].sum(),
            options={"step_size": 0.1},
        )


class Damped(nn.Module):
    """Its force and velocity leave out the damping that its own forward has."""

    def __init__(self, damping: float) -> None:
        super().__init__()
        self.damping = damping

    def force(self, q):
        return -q

    def velocity(self, p):
        return p

    def forward(self, t, state):
        return self.velocity(state[1]), self.force(state[0]) - self.damping * state[1]


class Driven(Damped):
    """A force that grows with time; at the start it is the one that a splitting calls."""

    def forward(self, t, state):
        return self.velocity(state[1]), self.force(state[0]) * (1 + self.damping * t)


@pytest.mark.parametrize("solve", [torchdiffeq.odeint, odeint], ids=["torchdiffeq", "own"])
@pytest.mark.parametrize("method", ["leapfrog", "implicit_midpoint_h", "tao2"])
@pytest.mark.parametrize(("kind", "end"), [(Damped, 1.0), (Damped, -1.0), (Driven, 1.0)])
def test_a_function_that_is_more_than_force_and_velocity_is_refused(kind, end, method, solve) -> None:
    """Also where it begins at rest, at time 0."""
    (q0, p0), _ = springs()
    t = torch.linspace(0, end, 3, dtype=torch.float64)
    for p in (p0, torch.zeros_like(p0)):
        with pytest.raises(TypeError, match=r"called as f\(t, \(q, p\)\).* its part force\(q\) differs"):
            solve(kind(0.1), (q0, p), t, method=method)
        q, _ = solve(kind(0.0), (q0, p), t, method=method)
        assert q.shape == (3, *q0.shape)


def test_a_potential_that_is_called_otherwise_is_no_function_to_compare() -> None:
    class Potential(nn.Module):
        def forward(self, q):
            return q.square().sum() / 2

        def force(self, q):
            return -q

        def velocity(self, p):
            return p

    y0, _ = springs()
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    assert odeint(Potential(), y0, t, method="leapfrog")[0].shape == (3, *y0[0].shape)


def test_names_of_trajectories_key_the_noise() -> None:
    (q, p), _ = springs()
    _, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(0, 1, 3, dtype=torch.float64)

    def run(rows: slice, **options):
        dynamics = SystemDynamics(Springs(num_particles=3), particles[rows])
        return torchdiffeq.odeint(dynamics, (q[rows], p[rows]), t, method="baoab", options=options)[0]

    whole = run(slice(0, 2), trajectory=torch.tensor([4, 7]))
    assert torch.equal(run(slice(1, 2), trajectory=torch.tensor([7])), whole[:, 1:])
    assert not torch.equal(run(slice(1, 2)), whole[:, 1:])


def test_another_packages_solver_is_left_alone() -> None:
    unregister_torchdiffeq()
    SOLVERS["leapfrog"] = SOLVERS["rk4"]
    try:
        with pytest.raises(RuntimeError, match="torchdiffeq already has leapfrog"):
            register_torchdiffeq()
        assert "pefrl" not in SOLVERS
        assert unregister_torchdiffeq() == ()
    finally:
        del SOLVERS["leapfrog"]


def test_another_torchdiffeq_is_refused(monkeypatch) -> None:
    monkeypatch.delattr(importlib.import_module("torchdiffeq._impl.odeint"), "SOLVERS")
    with pytest.raises(RuntimeError, match=r"has no table of solvers as version 0\.2\.5 has it"):
        register_torchdiffeq()
    monkeypatch.undo()
