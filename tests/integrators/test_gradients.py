"""Three ways to one gradient: equal numbers, gradients of gradients, constant memory, and no wrong gradient."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, Particles
from lie_sim.errors import NonFiniteError, ReversalError
from lie_sim.integrators import SystemDynamics, methods, odeint, odeint_adjoint, splitting_methods
from lie_sim.systems import Springs

SPLITTINGS = [method.name for method in splitting_methods() if method.reversible]
ELSEWHERE = [
    "adaptive_leapfrog",  # gradients by autograd only: test_adaptive
    "rattle",
    "rigid_body_splitting",
    "rigid_body_splitting4",
]  # other systems: test_rattle, test_ode
OTHERS = [
    m.name for m in methods() if m.reversible and not m.stochastic and m.name not in SPLITTINGS + ELSEWHERE
]
ROUND_OFF = (
    1e-12  # of the largest slope, 100 steps; measured: up to 1e-15, in fixed point 3e-12 (quantum 6e-14)
)
FIXED_POINT = 1e-10


class Chaos:
    """V = x²y²/2 + (x⁴ + y⁴)/40: bounded, and what starts close together is soon far apart."""

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x * y * y - 0.1 * x**3, -y * x * x - 0.1 * y**3], -1)

    def velocity(self, p: Tensor) -> Tensor:
        return p


def random_system(potential, batch: int = 2):
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(batch, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    masses = 0.5 + torch.rand(batch, 3, generator=generator, dtype=torch.float64)
    return Hamiltonian(potential).bind(Particles(masses=masses)), q, p


def slopes(dynamics, q, p, t, parameters, **options):
    """Gradients of a loss at two times with respect to everything."""
    inputs = [x.detach().clone().requires_grad_(True) for x in (q, p, t)]
    x, y = odeint(dynamics, (inputs[0], inputs[1]), inputs[2], **options)
    loss = (x[1:] * y[1:]).sum() + x[-1].square().sum() + y[1].sin().sum()
    return torch.autograd.grad(loss, [*inputs, *parameters], allow_unused=True)


def largest_difference(found, expected) -> float:
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert all((a is None) == (b is None) for a, b in zip(found, expected, strict=True))
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


@pytest.mark.parametrize("name", SPLITTINGS)
def test_equal_to_autograd(name, pair_potential) -> None:
    """State, times and weights; uneven times, so that steps differ and several states are saved."""
    dynamics, q, p = random_system(pair_potential)
    t = torch.tensor([0.0, 0.3, 0.4, 1.0], dtype=torch.float64)
    parameters = list(pair_potential.parameters())
    step = {"step_size": 0.01 if name == "leapfrog" else 0.05}
    expected = slopes(dynamics, q, p, t, parameters, method=name, options=step)
    for adjoint, more, tolerance in (
        ("reversible", {}, ROUND_OFF),
        ("checkpoint", {}, ROUND_OFF),
        ("reversible", {"fixed_point": True}, FIXED_POINT),
    ):
        found = slopes(dynamics, q, p, t, parameters, method=name, options=step | more, adjoint=adjoint)
        error = largest_difference(found, expected)
        assert error < tolerance, f"{adjoint} {more}: {error:.1e}"


@pytest.mark.parametrize("adjoint", ["reversible", "checkpoint"])
def test_steps_and_times_of_each_system(adjoint, pair_potential) -> None:
    dynamics, q, p = random_system(pair_potential)
    t = torch.tensor([[0.0, 0.5], [0.3, 1.0], [1.0, 0.7]], dtype=torch.float64)[[0, 1]]
    options = {"method": "yoshida4", "options": {"step_size": torch.tensor([0.1, 0.02])}}
    parameters = list(pair_potential.parameters())
    expected = slopes(dynamics, q, p, t, parameters, **options)
    assert (
        largest_difference(slopes(dynamics, q, p, t, parameters, adjoint=adjoint, **options), expected)
        < ROUND_OFF
    )


@pytest.mark.parametrize("adjoint", ["reversible", "checkpoint"])
def test_gradients_of_gradients(adjoint, pair_potential) -> None:
    dynamics, q, p = random_system(pair_potential, batch=1)
    t = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)

    def run(q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return odeint(dynamics, (q, p), t, method="leapfrog", adjoint=adjoint)

    inputs = (q.requires_grad_(True), p.requires_grad_(True))
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_a_gradient_penalty_on_the_weights(pair_potential) -> None:
    """Second derivatives that mix state and weights, as a loss of slopes has them."""
    dynamics, q, p = random_system(pair_potential)
    t = torch.linspace(0, 0.3, 4, dtype=torch.float64)
    results = []
    for adjoint in ("autograd", "reversible", "checkpoint"):
        start = q.detach().clone().requires_grad_(True)
        x, _ = odeint(dynamics, (start, p), t, method="pefrl", adjoint=adjoint)
        (slope,) = torch.autograd.grad(x[-1].square().sum(), start, create_graph=True)
        results.append(
            torch.autograd.grad(slope.square().sum(), list(pair_potential.parameters()), allow_unused=True)
        )
    assert largest_difference(results[1], results[0]) < ROUND_OFF
    assert largest_difference(results[2], results[0]) < ROUND_OFF


def test_masses_computed_beforehand_get_their_gradient() -> None:
    """The leaf lies behind an operation that was done before the run: its graph is shared by all steps."""
    state, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 0.5, 6, dtype=torch.float64)
    results = []
    for adjoint in ("autograd", "reversible", "checkpoint"):
        log_mass = particles.masses.log().requires_grad_(True)
        bound = Particles(masses=(2 * log_mass).exp().sqrt(), attributes=particles.attributes)
        q, p = odeint(
            SystemDynamics(Springs(num_particles=3), bound),
            (state.q, state.p),
            t,
            method="leapfrog",
            adjoint=adjoint,
        )
        (q.square().sum() + p.square().sum()).backward()
        results.append((log_mass.grad,))
    assert largest_difference(results[1], results[0]) < ROUND_OFF
    assert largest_difference(results[2], results[0]) < ROUND_OFF


def test_fixed_point_returns_to_the_same_bits_after_many_steps() -> None:
    """Chaotic motion in which floating point loses its way; backward raises unless the start is met exactly."""
    q = torch.tensor([[[0.3, -0.2]]], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([[[0.9, 0.85]]], dtype=torch.float64)
    t = torch.tensor([0.0, 400.0], dtype=torch.float64)
    run = {"method": "leapfrog", "adjoint": "reversible"}
    with pytest.raises(ReversalError, match="stepping back missed the initial state of"):
        odeint(Chaos(), (q, p), t, options={"step_size": 0.1}, **run)[0].sum().backward()
    odeint(Chaos(), (q, p), t, options={"step_size": 0.1, "fixed_point": True}, **run)[0].sum().backward()


def test_fixed_point_returns_to_the_same_bits_after_five_thousand_steps() -> None:
    """A hundred thousand are in benchmarks/reversible.py; backward raises unless the start is met exactly."""

    class Quartic:
        def force(self, q: Tensor) -> Tensor:
            return -(q**3)

        def velocity(self, p: Tensor) -> Tensor:
            return p

    q = torch.full((1, 1, 1), 0.7, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 500.0], dtype=torch.float64)
    run = {"method": "leapfrog", "adjoint": "reversible"}
    options = {"step_size": 0.1, "fixed_point": True}
    odeint(Quartic(), (q, torch.zeros_like(q)), t, options=options, **run)[0].sum().backward()
    assert q.grad.isfinite().all()


def test_fixed_point_notices_a_force_that_is_not_the_same_twice() -> None:
    class Fickle(Chaos):
        calls = 0

        def force(self, q: Tensor) -> Tensor:
            Fickle.calls += 1
            return super().force(q) * (1 + 1e-9 * Fickle.calls)

    q = torch.tensor([[[0.3, -0.2]]], dtype=torch.float64, requires_grad=True)
    x, _ = odeint(
        Fickle(),
        (q, q.detach()),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        method="leapfrog",
        options={"step_size": 0.1, "fixed_point": True},
        adjoint="reversible",
    )
    with pytest.raises(ReversalError, match="the force is not the same twice: fix"):
        x.sum().backward()


def test_fixed_point_has_a_range() -> None:
    q = torch.full((1, 1, 2), 3e5, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match="fixed-point range"):
        odeint(
            Chaos(),
            (q, q),
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            method="leapfrog",
            options={"fixed_point": True},
            adjoint="reversible",
        )


def test_diverged_systems_do_not_stop_the_others() -> None:
    q = torch.tensor([[[0.3, -0.2]], [[float("nan"), 0.0]]], dtype=torch.float64, requires_grad=True)
    x, _ = odeint(
        Chaos(),
        (q, torch.zeros_like(q)),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        method="leapfrog",
        options={"step_size": 0.1},
        adjoint="reversible",
    )
    x[-1, 0].sum().backward()
    assert bool(q.grad[0].isfinite().all())


def test_adjoint_door_steps_back_where_it_can(pair_potential) -> None:
    dynamics, q, p = random_system(pair_potential)
    q.requires_grad_(True)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    back, _ = odeint_adjoint(dynamics, (q, p), t, method="leapfrog")
    cut, _ = odeint_adjoint(dynamics, (q, p), t, method="symplectic_euler")
    plain, _ = odeint(dynamics, (q, p), t, method="leapfrog")
    assert _nodes(back) < 20 < _nodes(plain)
    assert cut.requires_grad
    one, other = (torch.autograd.grad(x.square().sum(), q)[0] for x in (back, plain))
    assert float((one - other).abs().max()) < ROUND_OFF


def _nodes(x: Tensor) -> int:
    """Size of the graph behind a tensor."""
    seen, waiting = set(), [x.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return len(seen)


MEMORY = """
import pathlib, re, torch
from lie_sim.integrators import SystemDynamics, odeint
from lie_sim.systems import Springs
torch.set_num_threads(1)
state, particles = Springs().sample(100, generator=torch.Generator().manual_seed(0))
dynamics = SystemDynamics(Springs(), particles)
def run(steps, adjoint):
    q = state.q.clone().requires_grad_(True)
    t = torch.tensor([0.0, steps * 1e-4], dtype=torch.float64)
    x, y = odeint(dynamics, (q, state.p), t, method="leapfrog", options={"step_size": 1e-4}, adjoint=adjoint)
    (x[-1] * y[-1]).sum().backward()
    # the resource module's peak is inherited from the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
peaks = [run(10, "reversible"), run(10, "reversible"), run(2000, "reversible"), run(2000, "autograd")]
print(peaks[2] - peaks[1], peaks[3] - peaks[2])
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    """MiB of 2,000 steps beyond those of 10; autograd, as the control, needs 24 more for these few numbers."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=200, check=True
    )
    reversible, autograd = map(float, done.stdout.split())
    assert reversible < 5 < 15 < autograd, done.stdout


@pytest.mark.parametrize("name", OTHERS)
def test_other_reversible_methods_step_back_too(name, pair_potential) -> None:
    dynamics, q, p = random_system(pair_potential)
    t = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)
    parameters = list(pair_potential.parameters())
    options = {"method": name, "options": {"step_size": 0.05}}
    expected = slopes(dynamics, q, p, t, parameters, **options)
    for adjoint in ("reversible", "checkpoint"):
        found = slopes(dynamics, q, p, t, parameters, adjoint=adjoint, **options)
        error = largest_difference(found, expected)
        assert error < 1e-9, f"{adjoint}: {error:.1e}"


def test_what_does_not_go_together_is_refused() -> None:
    q, t = torch.zeros(1, 1, 2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    for options, message in [
        ({"method": "symplectic_euler", "adjoint": "reversible"}, "cannot be stepped back"),
        ({"method": "leapfrog", "adjoint": "continuous"}, "solves no adjoint equation"),
        ({"method": "leapfrog", "adjoint": "magic"}, "adjoint must be one of"),
        ({"method": "leapfrog", "options": {"fixed_point": True}}, "fixed_point goes with"),
        ({"method": "rk4", "adjoint": "reversible"}, "is for methods of lie_sim"),
    ]:
        with pytest.raises(ValueError, match=message):
            odeint(Chaos(), (q, q), t, **options)


class Spring:
    """F = −k q, with a free constant."""

    def __init__(self, k: Tensor, rest: Tensor | None = None) -> None:
        self.k, self.rest = k, rest

    def force(self, q: Tensor) -> Tensor:
        return -self.k * (q if self.rest is None else q - self.rest)

    def velocity(self, p: Tensor) -> Tensor:
        return p


@pytest.mark.parametrize("name", ["leapfrog", "nose_hoover_chain"])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("case", ["times of k", "start of k", "momenta of positions", "rest at the start"])
def test_inputs_that_depend_on_each_other_are_counted_once(case, create_graph, name) -> None:
    results = []
    for adjoint in ("autograd", "reversible", "checkpoint"):
        k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        q = torch.tensor([[[0.7]]], dtype=torch.float64, requires_grad=True)
        t = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
        t = t * k if case == "times of k" else t
        start = q * k if case == "start of k" else q
        p = 2 * start if case == "momenta of positions" else torch.full_like(q, 0.3)
        spring = DrivenSpring(k, start if case == "rest at the start" else None)
        x, _ = odeint(spring, (start, p), t, method=name, options={"step_size": 0.1}, adjoint=adjoint)
        results.append(torch.autograd.grad(x.square().sum(), (k, q), create_graph=create_graph))
    assert largest_difference(results[1], results[0]) < 1e-10
    assert largest_difference(results[2], results[0]) < 1e-10


class DrivenSpring(Spring):
    """The same with the masses that a thermostat asks for."""

    masses = torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.parametrize("adjoint", ["reversible", "checkpoint"])
def test_a_leaf_that_acts_only_later_is_not_lost(adjoint) -> None:
    """A wall out of reach at the start: known if the dynamics is a module, refused otherwise."""

    class Wall(Spring):
        def force(self, q: Tensor) -> Tensor:
            return -self.k * (q - 1).relu() if bool((q > 1).any()) else 0 * q

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        force, velocity = Wall.force, Spring.velocity

    q, p = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    t, options = (
        torch.tensor([0.0, 1.5], dtype=torch.float64),
        {"method": "leapfrog", "options": {"step_size": 0.05}},
    )
    wall = Wall(torch.tensor(2.0, dtype=torch.float64, requires_grad=True))
    q.requires_grad_(True)
    x, _ = odeint(wall, (q, p), t, adjoint=adjoint, **options)
    with pytest.raises(RuntimeError, match="did not depend on at the start of the run"):
        x[-1].sum().backward()
    slopes = []
    for way in ("autograd", adjoint):
        module = Module()
        x, _ = odeint(module, (q, p), t, adjoint=way, **options)
        slopes.append(torch.autograd.grad(x[-1].sum(), module.k))
    assert largest_difference(slopes[1], slopes[0]) < ROUND_OFF


@pytest.mark.parametrize("adjoint", ["reversible", "checkpoint"])
def test_a_weight_changed_before_the_backward_pass_is_noticed(adjoint) -> None:
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    q, t = torch.ones(1, 1, 1, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    x, _ = odeint(Spring(k), (q, q), t, method="leapfrog", options={"step_size": 0.1}, adjoint=adjoint)
    with torch.no_grad():
        k.add_(0.3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x[-1].sum().backward()


def test_a_chaotic_system_is_not_hidden_by_a_large_one() -> None:
    q = torch.tensor([[[0.3, -0.2]], [[1e7, 0.0]]], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([[[0.9, 0.85]], [[0.0, 0.0]]], dtype=torch.float64)

    class OneAtRest(Chaos):
        def force(self, q: Tensor) -> Tensor:
            return torch.cat([super().force(q[:1]), 0 * q[1:]])

    t = torch.tensor([0.0, 400.0], dtype=torch.float64)
    x, _ = odeint(OneAtRest(), (q, p), t, method="leapfrog", options={"step_size": 0.1}, adjoint="reversible")
    with pytest.raises(ReversalError, match="of 1 systems"):
        x[-1].sum().backward()
