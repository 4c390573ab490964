"""Tao's methods: order, structure in the doubled phase space, and that the physical copy alone lacks it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim import GeneralHamiltonian, Hamiltonian, Particles
from lie_sim.integrators import Memory, Tao2, Tao4, get_method, integrate
from lie_sim.integrators.extended import TaoMethod
from lie_sim.models.base import EnergyModel

ORDER_TOLERANCE = 0.1  # on the slope of log(error) over a factor of 4 in the step, above round-off
SYMPLECTIC_DEFECT = 1e-13  # of the doubled map; measured: up to 1e-15
PHYSICAL_DEFECT = 1e-4  # of the physical copy alone, at least; measured: 1.3e-3 (tao4), 2.8e-3 (tao2)
REVERSAL_ERROR = 1e-12  # 200 steps of round-off; measured: up to 1e-15
ENERGY_ERROR = 5e-3  # relative, tao2, h = 0.05 over 5000 steps; measured: 1.8e-3
ALL = pytest.mark.parametrize("method", [Tao2(), Tao4()], ids=lambda method: method.name)

START = ((0.3, -0.2), (0.1, 0.25))
DURATION = 8.0


class Product:
    """H = Σ (q² + 1)(p² + 1)/2 for each pair (q, p): not separable, every motion periodic."""

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        q, p = state
        return (q.square() + 1) * p, -(p.square() + 1) * q


class HenonHeiles:
    """V = (x² + y²)/2 + x²y − y³/3, unit mass; any shape (B, …, 2)."""

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x - 2 * x * y, -y - x.square() + y.square()], -1)

    def velocity(self, p: Tensor) -> Tensor:
        return p


SYSTEMS = {"product": Product(), "henon_heiles": HenonHeiles()}


def start(size: int = 1) -> tuple[Tensor, Tensor]:
    q, p = (torch.tensor(part, dtype=torch.float64).reshape(1, 1, 2) for part in START)
    stretch = torch.linspace(1.0, 0.5, size, dtype=torch.float64)[:, None, None]
    return stretch * q, stretch * p


@pytest.fixture(scope="module", params=SYSTEMS)
def problem(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A system and its state at the end, by an independent solver."""
    system = SYSTEMS[request.param]
    dynamics = Tao2().dynamics(system)

    def rate(_: float, z: np.ndarray) -> np.ndarray:
        q, p = torch.tensor(z).reshape(2, 1, 1, 2).unbind()
        return torch.cat(dynamics(q, p)).flatten().numpy()

    solution = solve_ivp(rate, (0, DURATION), [*START[0], *START[1]], "DOP853", rtol=3e-14, atol=1e-15)
    return system, torch.tensor(solution.y[:, -1])


@ALL
def test_order_is_as_declared(method: TaoMethod, problem: tuple[Any, Tensor]) -> None:
    def error(steps: int) -> float:
        q, p = integrate(
            problem[0], *start(), step_size=DURATION / steps, num_steps=steps, save_every=steps, method=method
        )
        return float((torch.cat([q[0, -1], p[0, -1]]).flatten() - problem[1]).norm())

    slope = math.log2(error(512) / error(2048)) / 2
    assert abs(slope - method.order) < ORDER_TOLERANCE, f"slope {slope:.3f}, declared {method.order}"


def doubled(method: TaoMethod, z: Tensor, h: float, steps: int) -> Tensor:
    """The map of (q, x, p, y), each of two numbers."""
    q, x, p, y = z.reshape(4, 1, 1, 2).unbind()
    memory: Memory = {"q2": x, "p2": y}
    q, p, memory = method.advance(
        method.dynamics(Product()), q, p, step_size=h, num_steps=steps, memory=memory
    )
    return torch.cat([q, memory["q2"], p, memory["p2"]]).flatten()


def symplectic_defect(jacobian: Tensor) -> float:
    half = len(jacobian) // 2
    omega = torch.kron(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(half)).double()
    return float((jacobian.T @ omega @ jacobian - omega).abs().max())


@ALL
def test_map_of_the_doubled_space_is_symplectic(method: TaoMethod) -> None:
    assert method.symplectic_doubled
    z = torch.tensor([*START[0], 0.31, -0.22, *START[1], 0.12, 0.2], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: doubled(method, z, 0.2, 3), z)
    defect = symplectic_defect(jacobian)
    assert defect < SYMPLECTIC_DEFECT, f"{defect:.1e} > {SYMPLECTIC_DEFECT:.1e}"


@ALL
def test_map_of_the_physical_copy_is_not_symplectic(method: TaoMethod) -> None:
    assert not method.symplectic

    def step(z: Tensor) -> Tensor:
        q, p = z.reshape(2, 1, 1, 2).unbind()
        q, p = integrate(Product(), q, p, step_size=0.2, num_steps=3, save_every=3, method=method)
        return torch.cat([q[0, -1], p[0, -1]]).flatten()

    z = torch.tensor([*START[0], *START[1]], dtype=torch.float64)
    defect = symplectic_defect(torch.autograd.functional.jacobian(step, z))
    assert defect > PHYSICAL_DEFECT, f"{defect:.1e}"


def reversal_error(method: TaoMethod, *, pass_memory: bool) -> float:
    q0, p0 = start()
    dynamics = method.dynamics(Product())
    q, p, memory = method.advance(dynamics, q0, p0, step_size=0.1, num_steps=100)
    back = memory if pass_memory else None
    q, p, _ = method.advance(dynamics, q, p, step_size=-0.1, num_steps=100, memory=back)
    return float(torch.maximum((q - q0).abs().max(), (p - p0).abs().max()))


@ALL
def test_step_back_undoes_step_forth_in_the_doubled_space(method: TaoMethod) -> None:
    error = reversal_error(method, pass_memory=True)
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"
    assert reversal_error(method, pass_memory=False) > 1e3 * REVERSAL_ERROR


def test_energy_stays_where_the_copies_are_bound() -> None:
    q, p = (4 * x for x in start())

    def energy(q: Tensor, p: Tensor) -> Tensor:
        return ((q.square() + 1) * (p.square() + 1) / 2).sum((-2, -1))

    with torch.no_grad():
        qs, ps = integrate(Product(), q, p, step_size=0.05, num_steps=5000, save_every=50, method="tao2")
    error = float((energy(qs, ps) / energy(q, p) - 1).abs().max())
    assert error < ENERGY_ERROR, f"{error:.1e}"


@ALL
def test_systems_have_steps_of_their_own_and_a_step_of_zero_changes_nothing(method: TaoMethod) -> None:
    q, p = start(3)
    h = torch.tensor([0.05, 0.0, -0.1], dtype=torch.float64)
    dynamics = method.dynamics(Product())
    q, p, memory = method.advance(dynamics, q, p, step_size=0.1, num_steps=2)
    ends = method.advance(dynamics, q, p, step_size=h, num_steps=4, memory=memory)
    for i in range(3):
        kept = {key: value[i : i + 1] for key, value in memory.items()}
        alone = method.advance(
            dynamics, q[i : i + 1], p[i : i + 1], step_size=float(h[i]), num_steps=4, memory=kept
        )
        assert (ends[0][i] - alone[0][0]).abs().max() < 1e-15
        assert (ends[1][i] - alone[1][0]).abs().max() < 1e-15
    assert torch.equal(ends[0][1], q[1])
    assert torch.equal(ends[1][1], p[1])
    assert all(torch.equal(ends[2][key][1], memory[key][1]) for key in memory)


@ALL
def test_continued_run_is_the_uninterrupted_one(method: TaoMethod) -> None:
    dynamics, (q, p), memory = method.dynamics(Product()), start(3), None
    whole = method.advance(dynamics, q, p, step_size=0.1, num_steps=9)
    for steps in (1, 3, 0, 5):
        q, p, memory = method.advance(dynamics, q, p, step_size=0.1, num_steps=steps, memory=memory)
    assert memory is not None
    assert torch.equal(q, whole[0])
    assert torch.equal(p, whole[1])
    assert all(torch.equal(memory[key], whole[2][key]) for key in whole[2])


@ALL
def test_evaluations_are_as_declared(method: TaoMethod) -> None:
    class Counted(Product):
        calls = 0

        def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            self.calls += 1
            return super().vector_field(t, state)

    counted = Counted()
    integrate(counted, *start(), step_size=0.1, num_steps=10, save_every=5, method=method)
    assert counted.calls == 10 * method.forces_per_step + 1


@ALL
def test_gradient_of_the_discrete_map(method: TaoMethod) -> None:
    def run(q: Tensor, p: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return integrate(Product(), q, p, step_size=h, num_steps=2, method=method)

    inputs = [x.clone().requires_grad_(True) for x in start(2)]
    inputs.append(torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(run, inputs)


def test_copies_are_independent_variables_of_a_learned_hamiltonian() -> None:
    """∂H/∂q at (q, y) where y was computed from q: the derivative must not pass through y."""
    H = GeneralHamiltonian(lambda q, p, _: ((q.square() + 1) * (p.square() + 1) / 2).sum((1, 2)))
    H = H.bind(Particles(masses=torch.ones(1, 1, dtype=torch.float64)))
    q, p = (x.requires_grad_(True) for x in start())
    ends = [
        integrate(system, q, p, step_size=0.1, num_steps=3, method="tao2")[0] for system in (H, Product())
    ]
    gradients = [torch.autograd.grad(end.square().sum(), (q, p)) for end in ends]
    assert (ends[0] - ends[1]).abs().max() < 1e-15
    assert all((a - b).abs().max() < 1e-14 for a, b in zip(*gradients, strict=True))


def test_precision_and_padding(pair_potential: EnergyModel) -> None:
    q, p = torch.randn(2, 1, 3, 2, generator=torch.Generator().manual_seed(0)).unbind()
    masses = torch.tensor([[1.0, 2.0, 0.0]])
    H = Hamiltonian(pair_potential.float()).bind(Particles(masses=masses))
    ends, _ = integrate(H, q, p, step_size=0.05, num_steps=3, method="tao4")
    assert ends.dtype == torch.float32
    assert bool(ends.isfinite().all())


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="omega must be finite and not negative, got -1"):
        get_method("tao2", omega=-1)
    with pytest.raises(ValueError, match="its options are omega"):
        get_method("tao4", w=3)
    with pytest.raises(TypeError, match="has no vector_field"):
        Tao2().dynamics(object())
