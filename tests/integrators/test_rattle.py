"""RATTLE: the double pendulum, rigid molecules for long times, symplecticity on the manifold, bad constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim import Particles, PhaseState
from lie_sim.errors import ConvergenceError
from lie_sim.integrators import (
    ConstrainedDynamics,
    DistanceConstraints,
    Rattle,
    SystemDynamics,
    advance,
    get_method,
    integrate,
)
from lie_sim.integrators.constraints import Manifold
from lie_sim.systems import Springs

ORDER_TOLERANCE = 0.1  # measured: 2.000
VIOLATION = 1e-13  # relative error of distances, and speed along bonds; measured: 1e-15
SYMPLECTIC_DEFECT = 1e-13  # of one step, in an orthonormal basis; measured: 2.3e-16
REVERSAL_ERROR = 1e-11  # 500 steps forth and back; measured: 5e-14
ENERGY_TREND = 0.02  # of the largest error; measured: 0.0024, with projection 0.11
ROUND_OFF = 1e-12


class Field:
    """Every particle in its own anharmonic well, plus gravity g along −y: V = Σ (k q²/2 + a q⁴/4) + m g y."""

    def __init__(
        self, masses: Tensor, *, stiffness: float = 1.0, quartic: float = 0.3, g: float = 0.0
    ) -> None:
        self.masses, self.stiffness, self.quartic, self.calls = masses, stiffness, quartic, 0
        weight = torch.where(masses.isfinite(), masses, 0.0)[..., None] * g
        self.weight = torch.cat([torch.zeros_like(weight), weight], -1) if g else 0.0

    def force(self, q: Tensor) -> Tensor:
        self.calls += 1
        return -q * (self.stiffness + self.quartic * q.square()) - self.weight

    def velocity(self, p: Tensor) -> Tensor:
        return p / self.masses[..., None]

    def energy(self, state: PhaseState) -> Tensor:
        q, p = state.q, state.p
        terms = p * self.velocity(p) / 2 + self.stiffness * q**2 / 2 + self.quartic * q**4 / 4
        return (terms + self.weight * q).sum((1, 2))


def pairs(*names: tuple[int, int]) -> Tensor:
    return torch.tensor(names)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def water(num_systems: int = 2, dim: int = 3) -> tuple[ConstrainedDynamics, Tensor, Tensor]:
    """Rigid triangles of different masses, turning and swinging, and a free fourth particle."""
    generator = torch.Generator().manual_seed(1)
    masses = double([16.0, 1.0, 1.0, 3.0]).expand(num_systems, 4) * (1 + torch.arange(num_systems)[:, None])
    lengths = double([1.0, 1.0, 1.6])
    rigid = DistanceConstraints(pairs((0, 1), (0, 2), (1, 2)), lengths)
    dynamics = ConstrainedDynamics(Field(masses), rigid)
    corners = torch.zeros(4, dim, dtype=torch.float64)
    corners[:3, :2] = double([[0.0, 0.0], [0.8, 0.6], [-0.8, 0.6]])
    shift, p = torch.randn(2, num_systems, 4, dim, generator=generator, dtype=torch.float64)
    q, p = dynamics.project(corners + 0.1 * shift, p * masses[..., None].sqrt())
    return dynamics, q, p


def worst_violation(dynamics: ConstrainedDynamics, q: Tensor, p: Tensor) -> float:
    """Over trajectories (B, T, N, d)."""
    (i, j), lengths = dynamics.constraints.pairs.T, dynamics.constraints.lengths
    v = p / dynamics.unconstrained.masses[:, None, :, None]
    r, u = q[:, :, i] - q[:, :, j], v[:, :, i] - v[:, :, j]
    return float(torch.maximum(((r.norm(dim=-1) / lengths) - 1).abs().max(), (r * u).sum(-1).abs().max()))


# --- truth


def pendulum_rate(_: float, z: np.ndarray, m1: float = 1.0, m2: float = 0.6, g: float = 1.0) -> np.ndarray:
    """Angles from the downward vertical and their rates; lengths 1 and 0.7."""
    a, b, wa, wb = z
    l1, l2, sine = 1.0, 0.7, math.sin(a - b)
    mixed = m2 * l1 * l2 * math.cos(a - b)
    inertia = np.array([[(m1 + m2) * l1**2, mixed], [mixed, m2 * l2**2]])
    torque = [
        -m2 * l1 * l2 * sine * wb**2 - (m1 + m2) * g * l1 * math.sin(a),
        m2 * l1 * l2 * sine * wa**2 - m2 * g * l2 * math.sin(b),
    ]
    return np.array([wa, wb, *np.linalg.solve(inertia, torque)])


def pendulum_positions(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cartesian positions and velocities of pivot and bobs."""
    a, b, wa, wb = z
    first, second = np.array([math.sin(a), -math.cos(a)]), 0.7 * np.array([math.sin(b), -math.cos(b)])
    u, v = wa * np.array([math.cos(a), math.sin(a)]), 0.7 * wb * np.array([math.cos(b), math.sin(b)])
    return np.stack([0 * first, first, first + second]), np.stack([0 * u, u, u + v])


def pendulum_error(num_steps: int, start: tuple[float, ...] = (1.2, 0.5, 0.3, -0.8)) -> float:
    masses = double([[math.inf, 1.0, 0.6]])
    dynamics = ConstrainedDynamics(
        Field(masses, stiffness=0.0, quartic=0.0, g=1.0),
        DistanceConstraints(pairs((0, 1), (1, 2)), double([1.0, 0.7])),
    )
    q, v = (torch.tensor(x)[None] for x in pendulum_positions(np.array(start)))
    p = torch.where(masses.isfinite()[..., None], v * masses[..., None], 0.0)
    q, p, _ = advance(dynamics, q, p, step_size=4 / num_steps, num_steps=num_steps, method="rattle")
    end = solve_ivp(pendulum_rate, (0, 4), start, "DOP853", rtol=3e-14, atol=1e-15).y[:, -1]
    q_true, v_true = pendulum_positions(end)
    speed_error = np.abs((p / masses[..., None])[0].numpy() - v_true).max()
    return float(max(np.abs(q[0].numpy() - q_true).max(), speed_error))


def test_double_pendulum_follows_the_solution_in_angles_to_second_order() -> None:
    slope = math.log2(pendulum_error(200) / pendulum_error(800)) / 2
    assert abs(slope - Rattle().order) < ORDER_TOLERANCE, f"slope {slope:.3f}"


def test_free_rigid_dimer_turns_uniformly() -> None:
    """Two masses on a rod, no force: the rod turns at a constant rate; RATTLE has an error of phase of order h²."""
    dynamics = ConstrainedDynamics(
        Field(double([[1.0, 1.0]]), stiffness=0.0, quartic=0.0),
        DistanceConstraints(pairs((0, 1)), double([2.0])),
    )
    q, p = double([[[1.0, 0.0], [-1.0, 0.0]]]), double([[[0.0, 1.0], [0.0, -1.0]]])
    h = 0.01
    q, p, _ = advance(dynamics, q, p, step_size=h, num_steps=100, method="rattle")
    angle = 100 * math.asin(h)  # the map is a rotation by arcsin(h ω)
    exact = double([math.cos(angle), math.sin(angle)])
    assert float((q[0, 0] - exact).abs().max()) < ROUND_OFF
    assert abs(float(p[0, 0].norm()) - 1) < ROUND_OFF


# --- structure


@pytest.fixture(scope="module")
def long_run() -> tuple[ConstrainedDynamics, Tensor, Tensor]:
    dynamics, q, p = water(16)
    q, p = integrate(dynamics, q, p, step_size=0.03, num_steps=10_000, save_every=20, method="rattle")
    return dynamics, q, p


@pytest.mark.slow
@pytest.mark.xdist_group("long_run")
def test_constraints_hold_after_ten_thousand_steps(
    long_run: tuple[ConstrainedDynamics, Tensor, Tensor],
) -> None:
    violation = worst_violation(*long_run)
    assert violation < VIOLATION, f"{violation:.1e} > {VIOLATION:.1e}"


def energy_error(dynamics: ConstrainedDynamics, q: Tensor, p: Tensor) -> tuple[float, float]:
    """The largest relative error of the energy, and how far its mean moves between the halves of the run.

    The mean is one over systems as well: the error of one depends on where its energy sits at the time.
    """
    energy = torch.stack([dynamics.energy(PhaseState(q=q[:, t], p=p[:, t])) for t in range(q.shape[1])], 1)
    error = energy[:, 1:] / energy[:, :1] - 1
    first, second = error.chunk(2, dim=1)
    return float(error.abs().max()), float((second.mean() - first.mean()).abs() / error.abs().max())


@pytest.mark.slow
@pytest.mark.xdist_group("long_run")
def test_energy_has_no_trend(long_run: tuple[ConstrainedDynamics, Tensor, Tensor]) -> None:
    largest, trend = energy_error(*long_run)
    assert largest < 1e-3, f"{largest:.1e}"  # measured: 2.0e-4
    assert trend < ENERGY_TREND, f"{trend:.3f} > {ENERGY_TREND}"


def test_energy_test_notices_projection() -> None:
    dynamics, q, p = water(16)
    saved = [(q, p)]
    for _ in range(500):
        saved.append(wrong_step(dynamics, *saved[-1], 0.03))
    q, p = (torch.stack(part, 1) for part in zip(*saved, strict=True))
    assert energy_error(dynamics, q, p)[1] > 4 * ENERGY_TREND


def rattle_step(dynamics: ConstrainedDynamics, q: Tensor, p: Tensor, h: float) -> tuple[Tensor, Tensor]:
    q, p, _ = advance(dynamics, q, p, step_size=h, num_steps=1, method="rattle")
    return q, p


def wrong_step(dynamics: ConstrainedDynamics, q: Tensor, p: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """A step followed by projection to the nearest state of the manifold: plausible, and neither of the two."""
    field = dynamics.unconstrained
    half = p + h / 2 * field.force(q)
    q = q + h * field.velocity(half)
    return dynamics.project(q, half + h / 2 * field.force(q))


def symplectic_defect(step: Callable[..., tuple[Tensor, Tensor]]) -> float:
    """Largest |ξᵀ(JᵀΩJ − Ω)η| over unit vectors ξ, η tangent to the manifold."""
    dynamics, q, p = water(1)
    shape, n = q.shape, q.numel()

    def flat_step(z: Tensor) -> Tensor:
        return torch.cat([x.flatten() for x in step(dynamics, *z.reshape(2, *shape).unbind(), 0.1)])

    def constraint(z: Tensor) -> Tensor:
        q, p = z.reshape(2, *shape).unbind()
        manifold = Manifold(dynamics, q)
        r, v = manifold.separations(q), manifold.separations(dynamics.unconstrained.velocity(p))
        return torch.cat([manifold.violation(r).flatten(), (r * v).sum(-1).flatten()])

    z = torch.cat([q.flatten(), p.flatten()])
    J = torch.autograd.functional.jacobian(flat_step, z)
    normal = torch.autograd.functional.jacobian(constraint, z)
    tangent = torch.linalg.svd(normal)[2][normal.shape[0] :].T
    omega = torch.kron(double([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(n, dtype=torch.float64))
    return float((tangent.T @ (J.T @ omega @ J - omega) @ tangent).abs().max())


def test_step_is_symplectic_on_the_manifold() -> None:
    assert Rattle().symplectic
    defect = symplectic_defect(rattle_step)
    assert defect < SYMPLECTIC_DEFECT, f"{defect:.1e} > {SYMPLECTIC_DEFECT:.1e}"
    assert symplectic_defect(wrong_step) > 1e6 * SYMPLECTIC_DEFECT, "the test is blind"


def reversal_error(step: Callable[..., tuple[Tensor, Tensor]], num_steps: int) -> float:
    dynamics, q0, p0 = water()
    q, p = q0, p0
    for h in (0.02, -0.02):
        for _ in range(num_steps):
            q, p = step(dynamics, q, p, h)
    return float(torch.maximum((q - q0).abs().max(), (p - p0).abs().max()))


def test_step_back_undoes_step_forth() -> None:
    assert Rattle().reversible
    error = reversal_error(rattle_step, 500)
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"
    assert reversal_error(wrong_step, 20) > 1e3 * REVERSAL_ERROR, "the test is blind"


def test_batch_equals_single_and_step_sizes_may_differ() -> None:
    dynamics, q, p = water(3)
    h = double([0.02, 0.05, -0.03])
    ours = advance(dynamics, q, p, step_size=h, num_steps=20, method="rattle")
    for i in range(3):
        row = slice(i, i + 1)
        single = ConstrainedDynamics(Field(dynamics.unconstrained.masses[row]), dynamics.constraints)
        theirs = advance(single, q[row], p[row], step_size=float(h[i]), num_steps=20, method="rattle")
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            assert float((a[row] - b).abs().max()) < ROUND_OFF


def test_order_of_pairs_and_of_particles_in_a_pair_does_not_matter() -> None:
    dynamics, q, p = water()
    swapped = DistanceConstraints(pairs((2, 1), (1, 0), (2, 0)), double([1.6, 1.0, 1.0]))
    run = partial(advance, q=q, p=p, step_size=0.02, num_steps=20, method="rattle")
    ours, theirs = run(dynamics), run(ConstrainedDynamics(dynamics.unconstrained, swapped))
    assert float((ours[0] - theirs[0]).abs().max()) < ROUND_OFF


def test_padding_does_not_matter() -> None:
    particles = Particles(masses=double([[1.0, 2.0, 3.0, 0.0]]), attributes=double([[[1.0], [1], [1], [0]]]))
    rigid = DistanceConstraints(pairs((0, 1)), double([1.0]))
    q, p = double([[[0.0, 0], [1, 0], [0, 2], [0, 0]]]), double([[[0.5, 1], [1, -1], [0, 0], [0, 0]]])
    padded = ConstrainedDynamics(SystemDynamics(Springs(num_particles=4), particles), rigid)
    real = Particles(masses=particles.masses[:, :3], attributes=particles.attributes[:, :3])
    small = ConstrainedDynamics(SystemDynamics(Springs(num_particles=3), real), rigid)
    q, p = padded.project(q, p)
    ours = advance(padded, q, p, step_size=0.02, num_steps=20, method="rattle")
    theirs = advance(small, q[:, :3], p[:, :3], step_size=0.02, num_steps=20, method="rattle")
    assert float((ours[0][:, :3] - theirs[0]).abs().max()) < ROUND_OFF
    assert not bool(ours[0][:, 3].any() | ours[1][:, 3].any())


# --- border


def test_continued_run_is_the_same_to_the_bit_and_costs_one_force_per_step() -> None:
    dynamics, q, p = water()
    run = partial(advance, dynamics, step_size=0.02, method="rattle")
    dynamics.unconstrained.calls = 0
    whole = run(q, p, num_steps=20)
    assert dynamics.unconstrained.calls == 21
    q, p, memory = run(q, p, num_steps=7)
    q, p, memory = run(q, p, num_steps=13, memory=memory)
    assert torch.equal(q, whole[0])
    assert torch.equal(p, whole[1])
    assert torch.equal(memory["force"], whole[2]["force"])


@pytest.mark.parametrize("h", [0.0, [0.02, 0.0]])
def test_a_step_of_length_zero_changes_nothing(h: float | list[float]) -> None:
    dynamics, q, p = water()
    step_size = h if h == 0 else double(h)
    end_q, end_p, memory = advance(dynamics, q, p, step_size=step_size, num_steps=3, method="rattle")
    assert torch.equal(end_q[1], q[1])
    assert torch.equal(end_p[1], p[1])
    assert torch.equal(memory["force"][1], dynamics.unconstrained.force(q)[1])
    assert torch.equal(end_q[0], q[0]) == (h == 0)


def test_gradient_of_the_discrete_map() -> None:
    """Against finite differences, along the manifold: the inputs are projected first. Lengths are inputs too."""
    dynamics, q, p = water(1, dim=2)

    def run(q: Tensor, p: Tensor, masses: Tensor, lengths: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        rigid = DistanceConstraints(dynamics.constraints.pairs, lengths)
        bound = ConstrainedDynamics(Field(masses), rigid)
        q, p, _ = advance(bound, *bound.project(q, p), step_size=h, num_steps=3, method="rattle")
        return q, p

    rest = (dynamics.unconstrained.masses, dynamics.constraints.lengths, double([0.1]))
    assert torch.autograd.gradcheck(run, [x.clone().requires_grad_(True) for x in (q, p, *rest)])


def test_the_graph_changes_no_number() -> None:
    dynamics, q, p = water()
    run = partial(integrate, dynamics, step_size=0.05, num_steps=5, method="rattle")
    assert torch.equal(run(q.clone().requires_grad_(True), p)[0].detach(), run(q, p)[0])


def test_float32_keeps_its_precision() -> None:
    dynamics, q, p = water()
    single = ConstrainedDynamics(Field(dynamics.unconstrained.masses.float()), dynamics.constraints)
    q32, p32 = single.project(q.float(), p.float())
    end_q, end_p = integrate(single, q32, p32, step_size=0.02, num_steps=200, save_every=10, method="rattle")
    assert end_q.dtype == end_p.dtype == torch.float32
    assert worst_violation(single, end_q, end_p) < 1e-5  # measured: 4.6e-7


def test_every_system_may_have_its_own_lengths() -> None:
    dynamics, q, p = water()
    lengths = double([[1.0, 1.0, 1.6], [1.1, 0.9, 1.5]])
    own = ConstrainedDynamics(
        dynamics.unconstrained, DistanceConstraints(dynamics.constraints.pairs, lengths)
    )
    q, p, _ = advance(own, *own.project(q, p), step_size=0.02, num_steps=20, method="rattle")
    i, j = dynamics.constraints.pairs.T
    assert float(((q[:, i] - q[:, j]).norm(dim=-1) - lengths).abs().max()) < VIOLATION


def test_bad_pairs_and_lengths_are_refused() -> None:
    one = double([1.0])
    for names in ([(0, 0)], [(0, -1)], [(0, 1), (1, 0)]):
        with pytest.raises(ValueError, match="pairs must join two different particles, counted from 0"):
            DistanceConstraints(pairs(*names), one.expand(len(names)))
    with pytest.raises(ValueError, match=r"shape \(K,\) or \(B, K\) with K = 2 pairs; got \(1, 1, 2\)"):
        DistanceConstraints(pairs((0, 1), (1, 2)), double([[[1.0, 1.0]]]))
    with pytest.raises(ValueError, match=r"lengths must be positive and finite, got \[0.0\]"):
        DistanceConstraints(pairs((0, 1)), 0 * one)
    dynamics, q, p = water()
    far = ConstrainedDynamics(dynamics.unconstrained, DistanceConstraints(pairs((0, 4)), one))
    with pytest.raises(ValueError, match=r"pairs \[\[0, 4\]\] .* do not fit 2 systems of 4 particles"):
        advance(far, q, p, step_size=0.1, num_steps=1, method="rattle")
    with pytest.raises(ValueError, match="max_iterations must be >= 1, got 0"):
        get_method("rattle", max_iterations=0)


def test_a_start_off_the_manifold_is_refused() -> None:
    dynamics, q, p = water()
    run = partial(advance, dynamics, step_size=0.1, num_steps=1, method="rattle")
    moved, pushed = q.clone(), p.clone()
    moved[1, 2, 0] += 0.01
    pushed[1, 2, 0] += 0.5
    with pytest.raises(ValueError, match=r"the distance of pair \[[01], 2\] in system 1 .*dynamics.project"):
        run(moved, p)
    with pytest.raises(ValueError, match=r"the speed along the bond of pair \[[01], 2\] in system 1"):
        run(q, pushed)
    run(*dynamics.project(moved, pushed))


def test_constraints_that_repeat_each_other_are_refused() -> None:
    """Four corners of a square in the plane: six distances, five of them enough."""
    square = double([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    names = [(i, j) for i in range(4) for j in range(i)]
    lengths = double([float((square[0, i] - square[0, j]).norm()) for i, j in names])
    run = partial(advance, q=square, p=0 * square, step_size=0.1, num_steps=1, method="rattle")
    field = Field(torch.ones(1, 4).double())
    with pytest.raises(ValueError, match="the constraints repeat each other"):
        run(ConstrainedDynamics(field, DistanceConstraints(pairs(*names), lengths)))
    run(ConstrainedDynamics(field, DistanceConstraints(pairs(*names[:5]), lengths[:5])))


def test_a_step_too_long_raises_and_says_where() -> None:
    dynamics, q, p = water()
    steps = double([0.01, 40.0])
    with pytest.raises(
        ConvergenceError, match=r"system 1 are violated by .* after 20 Newton .* shorter step"
    ):
        advance(dynamics, q, p, step_size=steps, num_steps=1, method=get_method("rattle", max_iterations=20))


def test_other_methods_do_not_ignore_the_constraints() -> None:
    dynamics, q, p = water()
    with pytest.raises(TypeError, match="ConstrainedDynamics has no force and no velocity"):
        advance(dynamics, q, p, step_size=0.1, num_steps=1, method="leapfrog")
    with pytest.raises(
        TypeError, match=r"rattle needs ConstrainedDynamics\(dynamics, constraints\), got Field"
    ):
        advance(dynamics.unconstrained, q, p, step_size=0.1, num_steps=1, method="rattle")
