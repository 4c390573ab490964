"""CSVR and Nosé–Hoover chains: canonical distributions, kept energies, order, reversal."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim import PhaseState
from lie_sim.integrators import BAOAB, CSVR, Method, NoseHooverChain, advance

SIGNIFICANCE = 1e-3  # of tests with a fixed seed: they pass or fail for good
STANDARD_ERRORS = 4.0
ORDER_TOLERANCE = 0.1
REVERSAL_ERROR = 1e-11  # 100 steps each way of a chaotic motion; measured: up to 2e-13
ENERGY_TREND = 0.05  # of the largest error, between the halves of a run


class Quartic:
    """V = Σ (k q²/2 + a q⁴/4) for every coordinate."""

    def __init__(self, masses: Tensor, *, stiffness: float = 1.0, quartic: float = 0.0) -> None:
        self.masses, self.stiffness, self.quartic = masses, stiffness, quartic

    def force(self, q: Tensor) -> Tensor:
        return -q * (self.stiffness + self.quartic * q.square())

    def velocity(self, p: Tensor) -> Tensor:
        return p / self.masses[..., None]

    def energy(self, state: PhaseState) -> Tensor:
        q, p = state.q, state.p
        terms = p * self.velocity(p) / 2 + self.stiffness * q**2 / 2 + self.quartic * q**4 / 4
        return terms.sum((1, 2))


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def random_state(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    q, p = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return q, p


def twice_kinetic(dynamics: Quartic, p: Tensor) -> Tensor:
    return (p * dynamics.velocity(p)).sum((1, 2))


def chi_square_p_value(values: Tensor, degrees: int) -> float:
    return float(stats.kstest(values.numpy(), stats.chi2(degrees).cdf).pvalue)


# --- stochastic velocity rescaling


@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_csvr_gives_the_canonical_kinetic_energy(removed: int) -> None:
    """2K/(k_B T) of free particles is χ²(N_f) after a time of 12 τ, for odd and even N_f = 4 − removed."""
    dynamics = Quartic(torch.tensor([0.5, 3.0]).double().expand(4000, 2), stiffness=0.0)
    q, p = 3 * ones(4000, 2, 2), 2 * ones(4000, 2, 2)
    method = CSVR(temperature=0.6, removed_degrees_of_freedom=removed, seed=1)
    _, p, _ = advance(dynamics, q, p, step_size=0.5, num_steps=24, method=method)
    values = twice_kinetic(dynamics, p) / 0.6
    assert chi_square_p_value(values, 4 - removed) > SIGNIFICANCE
    assert chi_square_p_value(values, 5 - removed) < SIGNIFICANCE, "the test is blind to N_f"
    assert chi_square_p_value(values * 1.1, 4 - removed) < SIGNIFICANCE, "the test is blind to temperature"


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_one_csvr_step_has_the_mean_and_the_variance_of_the_paper(h: float) -> None:
    """From K_0: mean c K_0 + (1−c) K̄, variance 4 K_0 K̄ c (1−c)/N_f + 2 K̄² (1−c)²/N_f."""
    dynamics = Quartic(ones(20_000, 1), stiffness=0.0)
    p = torch.tensor([1.0, 0.5, 2.0]).double().expand(20_000, 1, 3)
    _, p, _ = advance(dynamics, p, p, step_size=h, num_steps=1, method=CSVR(temperature=2.0, seed=3))
    K, start, bath, c, n = twice_kinetic(dynamics, p) / 2, 5.25 / 2, 3.0, math.exp(-h), 3
    mean = c * start + (1 - c) * bath
    variance = 4 * start * bath * c * (1 - c) / n + 2 * (bath * (1 - c)) ** 2 / n
    error = (float(K.mean()) - mean) / math.sqrt(variance / 20_000)
    assert abs(error) < STANDARD_ERRORS, f"mean off by {error:.1f} standard errors"
    fourth = float((K - mean).square().var()) / 20_000
    error = (float((K - mean).square().mean()) - variance) / math.sqrt(fourth)
    assert abs(error) < STANDARD_ERRORS, f"variance off by {error:.1f} standard errors"


@pytest.mark.parametrize("h", [0.1, 3.0])
def test_csvr_of_one_degree_of_freedom_is_langevin_dynamics(h: float) -> None:
    """Then α p = √c p + √((1−c) k_B T m) R sign p: friction 1/(2τ) and the same noise, sign changes of p included."""
    dynamics = Quartic(2 * ones(500, 1))
    q, p = random_state(500, 1, 1)
    p = p.abs() + 3 * h  # positive still after the half kick
    run = partial(advance, dynamics, q, p, step_size=h, num_steps=1)
    (q1, p1, _), (q2, p2, _) = run(method=CSVR(seed=3)), run(method=BAOAB(friction=0.5, seed=3))
    middle = p + h / 2 * dynamics.force(q)
    same = (middle > 0).flatten()
    assert int(same.sum()) > 300
    assert float(((q1 - q2)[same]).abs().max()) < 1e-12
    assert float(((p1 - p2)[same]).abs().max()) < 1e-12
    assert (h < 1) or bool((q1[same] < (q + h / 2 * middle / 2)[same]).any()), "no sign changed"


def test_csvr_samples_positions_of_coupled_energies_too() -> None:
    """One oscillator in a quartic well: KS of q against exp(−V/k_B T), at a step of 1/60 of a period."""
    dynamics = Quartic(ones(3000, 1), quartic=1.0)
    q, p = ones(3000, 1, 1), 0.1 * random_state(3000, 1, 1)[1]
    q, _, _ = advance(dynamics, q, p, step_size=0.1, num_steps=400, method=CSVR(relaxation_time=0.5, seed=1))
    assert quartic_p_value(q, 1.0) > SIGNIFICANCE
    assert quartic_p_value(q, 1.3) < SIGNIFICANCE, "the test is blind to temperature"


def quartic_p_value(q: Tensor, temperature: float) -> float:
    """Of q being drawn from exp(−(q²/2 + q⁴/4)/k_B T)."""
    grid = np.linspace(-8, 8, 20_001)
    cumulated = np.cumsum(np.exp(-(grid**2 / 2 + grid**4 / 4) / temperature))
    return float(
        stats.kstest(q.flatten().numpy(), lambda x: np.interp(x, grid, cumulated / cumulated[-1])).pvalue
    )


def test_csvr_keeps_momentum_zero_and_leaves_a_system_at_rest_at_rest() -> None:
    dynamics = Quartic(ones(2, 3), stiffness=0.0)
    q, p = random_state(2, 3, 2)
    p = p - p.mean(1, keepdim=True)
    _, end, _ = advance(dynamics, q, p, step_size=0.1, num_steps=50, method=CSVR(seed=1))
    assert float(end.sum(1).abs().max()) < 1e-13
    _, still, _ = advance(dynamics, q, 0 * p, step_size=0.1, num_steps=3, method=CSVR(seed=1))
    assert not bool(still.any())


def conserved_error(method: Method, h: float, *, duration: float = 4.0) -> float:
    """Root mean square of the error of the kept energy at the end, over 64 systems."""
    dynamics, (q, p) = Quartic(ones(64, 2), quartic=0.5), random_state(64, 2, 2)
    start = dynamics.energy(PhaseState(q=q, p=p))
    q, p, memory = advance(dynamics, q, p, step_size=h, num_steps=round(duration / h), method=method)
    error = method.conserved_energy(dynamics, q, p, memory) - start
    return float(error.square().mean().sqrt())


@pytest.mark.parametrize("method", [CSVR(seed=2), NoseHooverChain()], ids=lambda method: method.name)
def test_kept_energy_is_of_second_order(method: Method) -> None:
    slope = math.log2(conserved_error(method, 0.04) / conserved_error(method, 0.01)) / 2
    assert abs(slope - 2) < 0.3, f"slope {slope:.2f}"  # measured: 2.016, 2.001


# --- Nosé–Hoover chains


def chain_rate(_: float, z: np.ndarray, T: float = 0.7, tau: float = 0.8) -> np.ndarray:
    """Two oscillators with a quartic term, coupled by a chain of three."""
    q, p, eta_velocity = z[:2], z[2:4], z[7:]
    w1, w2, w3 = eta_velocity
    G1 = ((p**2).sum() / (2 * T) - 1) / tau**2
    return np.array(
        [
            *p,
            *(-q * (1 + 0.5 * q**2) - w1 * p),
            *eta_velocity,
            G1 - w2 * w1,
            2 * w1**2 - 1 / tau**2 - w3 * w2,
            w2**2 - 1 / tau**2,
        ]
    )


def chain_error(method: Method, num_steps: int) -> float:
    start = [1.0, -0.5, 0.4, 1.2]
    truth = solve_ivp(chain_rate, (0, 3), [*start, *[0.0] * 6], "DOP853", rtol=3e-14, atol=1e-15).y[:, -1]
    q, p = torch.tensor(start).double().reshape(2, 1, 2, 1)
    q, p, memory = advance(
        Quartic(ones(1, 2), quartic=0.5), q, p, step_size=3 / num_steps, num_steps=num_steps, method=method
    )
    parts = (q, p, memory["chain_position"], memory["chain_velocity"])
    return float(np.abs(torch.cat([x.flatten() for x in parts]).numpy() - truth).max())


@pytest.mark.parametrize(("yoshida_suzuki", "substeps"), [(1, 1), (3, 1), (7, 1), (3, 2)])
def test_chain_follows_its_equations_to_second_order(yoshida_suzuki: int, substeps: int) -> None:
    method = NoseHooverChain(
        temperature=0.7, relaxation_time=0.8, yoshida_suzuki=yoshida_suzuki, substeps=substeps
    )
    slope = math.log2(chain_error(method, 64) / chain_error(method, 256)) / 2
    assert abs(slope - method.order) < ORDER_TOLERANCE, f"slope {slope:.3f}"  # measured: 2.002


def test_chain_order_test_notices_other_equations() -> None:
    wrong = NoseHooverChain(temperature=0.7, relaxation_time=0.81)
    assert chain_error(wrong, 256) > 100 * chain_error(
        NoseHooverChain(temperature=0.7, relaxation_time=0.8), 256
    )


@pytest.mark.parametrize("length", [1, 3, 5])
def test_chain_runs_back(length: int) -> None:
    dynamics, (q, p) = Quartic(ones(3, 2), quartic=0.5), random_state(3, 2, 2)
    method = NoseHooverChain(chain_length=length)
    run = partial(advance, dynamics, num_steps=100, method=method)
    q1, p1, memory = run(q, p, step_size=0.05)
    q2, p2, memory = run(q1, p1, step_size=-0.05, memory=memory)
    chain = torch.cat([memory["chain_position"], memory["chain_velocity"]], 1)
    error = float(torch.stack([(q2 - q).abs().max(), (p2 - p).abs().max(), chain.abs().max()]).max())
    assert float((q1 - q).abs().max()) > 0.1
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"


def kept_energy_errors(method: NoseHooverChain) -> Tensor:
    """Of 64 systems at 150 times over 3000 steps."""
    dynamics, (q, p) = Quartic(ones(64, 2), quartic=0.5), random_state(64, 2, 2)
    memory, energies = {}, [method.conserved_energy(dynamics, q, p, {})]
    for _ in range(150):
        q, p, memory = advance(dynamics, q, p, step_size=0.05, num_steps=20, method=method, memory=memory)
        energies.append(method.conserved_energy(dynamics, q, p, memory))
    return torch.stack(energies[1:]) - energies[0]


def test_kept_energy_of_a_chain_has_no_trend() -> None:
    """Of the mean; the errors of single systems spread slowly, as they may where no volume is conserved."""
    error = kept_energy_errors(NoseHooverChain())
    assert float(error.abs().max()) < 0.1  # measured: 0.051 of energies about 5
    first, second = error.chunk(2)
    trend = float((second.mean() - first.mean()).abs() / error.abs().max())
    assert trend < ENERGY_TREND, f"{trend:.3f}"  # measured: 0.011
    spread = float(second.std() / first.std())
    assert spread < 1.5, f"{spread:.2f}"  # measured: 1.18


def sampled_oscillator(chain_length: int) -> tuple[Tensor, Tensor]:
    """q and p of 2000 harmonic oscillators after 24 periods, started close to q = 1.2, p = 0."""
    dynamics = Quartic(ones(2000, 1))
    q, p = random_state(2000, 1, 1)
    method = NoseHooverChain(chain_length=chain_length)
    q, p, _ = advance(dynamics, 1.2 + 0.1 * q, 0.1 * p, step_size=0.1, num_steps=1500, method=method)
    return q.flatten(), p.flatten()


@pytest.mark.slow
def test_chain_samples_the_canonical_ensemble_of_a_harmonic_oscillator() -> None:
    """p² and q² are χ²(1); one bath alone is not ergodic here, the reason for chains."""
    q, p = sampled_oscillator(4)
    assert chi_square_p_value(p.square(), 1) > SIGNIFICANCE
    assert chi_square_p_value(q.square(), 1) > SIGNIFICANCE
    assert chi_square_p_value(q.square() * 1.2, 1) < SIGNIFICANCE, "the test is blind to temperature"
    q, _ = sampled_oscillator(1)
    assert chi_square_p_value(q.square(), 1) < SIGNIFICANCE


def test_chain_samples_an_anharmonic_well() -> None:
    dynamics = Quartic(ones(2000, 1), quartic=1.0)
    q, p = random_state(2000, 1, 1)
    q, p, _ = advance(
        dynamics, 0.5 + 0.3 * q, 0.3 * p, step_size=0.1, num_steps=800, method=NoseHooverChain()
    )
    assert quartic_p_value(q, 1.0) > SIGNIFICANCE
    assert chi_square_p_value(p.flatten().square(), 1) > SIGNIFICANCE


def test_impossible_options_are_refused() -> None:
    for kind in (CSVR, NoseHooverChain):
        with pytest.raises(ValueError, match="relaxation_time must be positive and finite, got 0"):
            kind(relaxation_time=0.0)
        with pytest.raises(ValueError, match="removed_degrees_of_freedom must be >= 0, got -1"):
            kind(removed_degrees_of_freedom=-1)
    with pytest.raises(ValueError, match="needs a temperature > 0"):
        NoseHooverChain(temperature=0.0)
    with pytest.raises(ValueError, match="chain_length and substeps must be >= 1, got 0 and 1"):
        NoseHooverChain(chain_length=0)
    with pytest.raises(ValueError, match="yoshida_suzuki must be 1, 3 or 7, got 5"):
        NoseHooverChain(yoshida_suzuki=5)
    dynamics, (q, p) = Quartic(ones(2, 1)), random_state(2, 1, 2)
    none_left = CSVR(removed_degrees_of_freedom=2)
    with pytest.raises(ValueError, match=r"at least one degree of freedom; removed.*=2 leaves \[0, 0\]"):
        advance(dynamics, q, p, step_size=0.1, num_steps=1, method=none_left)
    with pytest.raises(TypeError, match="object has no energy"):
        NoseHooverChain().conserved_energy(object(), q, p, {})
