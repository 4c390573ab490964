"""Force targets: exact for polynomials, of the declared order, accurate on the springs data."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lie_sim.data import force_targets, hermite_weights, make_trajectories
from lie_sim.data.derivatives import momentum_slopes
from lie_sim.systems import Springs

ROUNDING = 1e-9  # relative; float64 amplified by 83/dt² with dt = 0.01
SPRINGS_ENDS = 2e-8  # rms force error / rms force at the ends of five points, dt = 5/499; measured 7e-9
SPRINGS_MIDDLE = 6e-10  # the same in the middle; measured 2e-10


@pytest.mark.parametrize("num_points", [2, 3, 5, 7])
def test_weights_are_exact_for_every_polynomial_they_should_be(num_points: int) -> None:
    A, B = (w.numpy() for w in hermite_weights(num_points))
    x = np.arange(num_points, dtype=float)
    for degree in range(2 * num_points):
        c = np.zeros(degree + 1)
        c[degree] = 1.0
        value, slope, curvature = (np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyder(c, k))
                                   for k in range(3))  # fmt: skip
        scale = max(1.0, np.abs(A @ np.diag(value)).max(), np.abs(B @ np.diag(slope)).max())
        assert np.abs(A @ value + B @ slope - curvature).max() < 1e-13 * scale, degree
    beyond = x ** (2 * num_points)
    estimate = A @ beyond + B @ (2 * num_points * x ** (2 * num_points - 1))
    missed = 2 * num_points * (2 * num_points - 1) * x ** (2 * num_points - 2) - estimate
    remainder = [2 * math.prod(j - m for m in range(num_points) if m != j) ** 2 for j in range(num_points)]
    assert missed.tolist() == pytest.approx(remainder, rel=1e-3)


def test_weights_solve_the_confluent_vandermonde_system() -> None:
    """Independent derivation: exact elimination of the interpolation conditions for three points."""
    nodes, size = range(3), 6
    rows = [[Fraction(x) ** n for n in range(size)] for x in nodes]
    rows += [[Fraction(n) * Fraction(x) ** max(n - 1, 0) for n in range(size)] for x in nodes]
    inverse = np.linalg.inv(np.array(rows, dtype=float))
    second = np.array([[n * (n - 1) * float(x) ** max(n - 2, 0) for n in range(size)] for x in nodes])
    A, B = hermite_weights(3)
    assert np.allclose(second @ inverse, np.concatenate([A.numpy(), B.numpy()], 1), atol=1e-12)


@pytest.mark.parametrize("window", [2, 3, 4, 5])
def test_error_falls_with_the_declared_order(window: int) -> None:
    def worst(dt: float) -> float:
        t = (1.0 + dt * torch.arange(window, dtype=torch.float64)).reshape(1, -1, 1, 1)
        mass = torch.full((1, 1), 2.5, dtype=torch.float64)
        force = force_targets(torch.sin(t), 2.5 * torch.cos(t), mass, dt)
        return float((force + 2.5 * torch.sin(t)).abs().max())

    dt = 0.2
    slope = math.log2(worst(dt) / worst(dt / 2))
    assert slope == pytest.approx(2 * window - 2, abs=0.5), slope


def test_springs_targets_at_the_benchmarks_step() -> None:
    system = Springs()
    chunks = make_trajectories(system, 400, seed=1).chunks(5, generator=torch.Generator().manual_seed(0))
    truth = torch.stack([system.force(chunks.q[:, k], chunks.particles) for k in range(5)], 1)
    error = force_targets(chunks.q, chunks.p, chunks.particles.masses, chunks.dt) - truth
    relative = (error.square().mean((0, 2, 3)) / truth.square().mean((0, 2, 3))).sqrt().tolist()
    assert max(relative) < SPRINGS_ENDS, relative
    assert relative[2] < SPRINGS_MIDDLE, relative


def test_window_slides_along_a_long_trajectory() -> None:
    system = Springs()
    data = make_trajectories(system, 10, seed=1, times=0.05 * torch.arange(12, dtype=torch.float64))
    arguments = (data.particles.masses, data.dt)
    force = force_targets(data.q, data.p, *arguments, window=5)
    middle = force_targets(data.q[:, 4:9], data.p[:, 4:9], *arguments)[:, 2]
    start = force_targets(data.q[:, :5], data.p[:, :5], *arguments)[:, :2]
    end = force_targets(data.q[:, -5:], data.p[:, -5:], *arguments)[:, -2:]
    for found, expected in ((force[:, 6], middle), (force[:, :2], start), (force[:, -2:], end)):
        assert (found - expected).abs().max() < ROUNDING * expected.abs().max()
    automatic = force_targets(data.q, data.p, *arguments)
    assert torch.equal(automatic, force_targets(data.q, data.p, *arguments, window=7))


def test_targets_keep_dtype_and_turn_with_the_data() -> None:
    data = make_trajectories(Springs(), 3, seed=1, times=0.01 * torch.arange(5, dtype=torch.float64))
    single = data.to(dtype=torch.float32)
    assert force_targets(single.q, single.p, single.particles.masses, data.dt).dtype == torch.float32
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    force = force_targets(data.q, data.p, data.particles.masses, data.dt)
    turned = force_targets(data.q @ turn.mT + 7.0, data.p @ turn.mT, data.particles.masses, data.dt)
    assert (turned - force @ turn.mT).abs().max() < 10 * ROUNDING * force.abs().max()


def test_wrong_use_is_explained() -> None:
    q, masses = torch.zeros(1, 4, 1, 1), torch.ones(1, 1)
    with pytest.raises(ValueError, match="from 2 to the 4 points"):
        force_targets(q, q, masses, 0.1, window=5)
    with pytest.raises(ValueError, match="from 2 to the 1 points"):
        force_targets(q[:, :1], q[:, :1], masses, 0.1)
    with pytest.raises(ValueError, match="dt must be positive"):
        force_targets(q, q, masses, 0.0)
    with pytest.raises(ValueError, match="at least 2 points"):
        hermite_weights(1)


def test_slopes_of_momenta_are_exact_for_lines_and_average_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    t = 0.1 * torch.arange(9, dtype=torch.float64)[None, :, None, None]
    line = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64) * t
    for window in (2, 5, 20):
        found = momentum_slopes(line, 0.1, window=window)
        assert found.shape == (3, 9 - min(window, 9) + 1, 2, 2)
        assert torch.allclose(found, (line[:, 1:2] / 0.1).expand_as(found), rtol=ROUNDING)
    noise = torch.randn(2000, 5, 1, 1, generator=generator, dtype=torch.float64)
    deviation = float(momentum_slopes(noise, 0.1).std())
    assert deviation == pytest.approx(1 / (0.1 * math.sqrt(10)), rel=0.06)  # 2000 samples: 1.6 %
    with pytest.raises(ValueError, match="a slope needs 2 points"):
        momentum_slopes(line[:, :1], 0.1)
