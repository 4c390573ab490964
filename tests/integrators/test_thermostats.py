"""Langevin words: order, exact stationary distributions, noise that knows only its key, padding, gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim import Hamiltonian, Particles
from lie_sim.integrators import (
    BAOAB,
    CSVR,
    OBABO,
    LangevinMiddle,
    Method,
    NoseHooverChain,
    SystemDynamics,
    advance,
    get_method,
    integrate,
    normal_noise,
)
from lie_sim.models.base import EnergyModel
from lie_sim.systems import Springs

LANGEVIN = (BAOAB, LangevinMiddle, OBABO)
ALL = pytest.mark.parametrize("kind", [*LANGEVIN, CSVR, NoseHooverChain], ids=lambda kind: kind.name)
STOCHASTIC = pytest.mark.parametrize("kind", [*LANGEVIN, CSVR], ids=lambda kind: kind.name)
WORDS = pytest.mark.parametrize("kind", LANGEVIN, ids=lambda kind: kind.name)

ORDER_TOLERANCE = 0.1  # on a slope over a factor of 4 in the step; measured: at most 0.0003
EXACT = 1e-13  # stationary covariances by linear algebra; measured: up to 2.3e-15
ROUND_OFF = 1e-13
STANDARD_ERRORS = 4.0  # a fixed seed passes or fails for good; by chance once in 16000


class Oscillators:
    """V = ½ k q² for every coordinate, ω = √(k/m); ``calls`` counts the forces."""

    def __init__(self, masses: Tensor, stiffness: float | Tensor = 1.0) -> None:
        self.masses, self.stiffness, self.calls = masses, stiffness, 0

    def force(self, q: Tensor) -> Tensor:
        self.calls += 1
        return -self.stiffness * q

    def velocity(self, p: Tensor) -> Tensor:
        return p / self.masses[..., None]


class HenonHeiles:
    """V = (x² + y²)/2 + x²y − y³/3, unit mass."""

    masses = torch.ones(1, 1, dtype=torch.float64)

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x - 2 * x * y, -y - x.square() + y.square()], -1)

    def velocity(self, p: Tensor) -> Tensor:
        return p


def random_state(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    q, p = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return q, p


# --- truth: order at zero temperature, where every word is a method for a damped equation


def damped_henon_heiles(rate: float) -> np.ndarray:
    def field(_: float, z: np.ndarray) -> np.ndarray:
        x, y, px, py = z
        return np.array([px, py, -x - 2 * x * y - rate * px, -y - x * x + y * y - rate * py])

    return solve_ivp(field, (0, 4), [0.3, -0.2, 0.1, 0.25], "DOP853", rtol=3e-14, atol=1e-15).y[:, -1]


def order_slope(method: Method, truth: np.ndarray) -> float:
    errors = []
    for num_steps in (128, 512):
        q, p = (
            torch.tensor([[part]], dtype=torch.float64).reshape(1, 1, 2)
            for part in ([0.3, -0.2], [0.1, 0.25])
        )
        q, p, _ = advance(HenonHeiles(), q, p, step_size=4 / num_steps, num_steps=num_steps, method=method)
        errors.append(float(np.abs(torch.cat([q, p]).flatten().numpy() - truth).max()))
    return math.log2(errors[0] / errors[1]) / 2


@STOCHASTIC
def test_order_is_as_declared(kind: type) -> None:
    method = kind(temperature=0.0, **({"relaxation_time": 1.0} if kind is CSVR else {"friction": 0.5}))
    slope = order_slope(method, damped_henon_heiles(0.5))
    assert abs(slope - method.order) < ORDER_TOLERANCE, f"slope {slope:.3f}, declared {method.order}"


def test_order_test_notices_a_word_that_reads_differently_backwards() -> None:
    @dataclass(frozen=True)
    class Lopsided(BAOAB):
        scheme: str = field(default="BAOBA", init=False)

    slope = order_slope(Lopsided(temperature=0.0, friction=0.5), damped_henon_heiles(0.5))
    assert abs(slope - 2) > 5 * ORDER_TOLERANCE, f"slope {slope:.3f}"


# --- identity: a linear step x' = M x + R ξ has the stationary covariance Σ = M Σ Mᵀ + R Rᵀ


def stationary_covariance(kind: type, h: float, mass: float = 1.0) -> Tensor:
    """Σ of (q, p) from the method's own steps; k = mass, so that ω = 1; k_B T = 1."""
    step = partial(advance, step_size=h, num_steps=1)
    oscillators = Oscillators(torch.full((8, 1), mass).double(), stiffness=mass)
    units = torch.zeros(8, 2, dtype=torch.float64)
    units[:2] = torch.eye(2)
    start = [x.reshape(8, 1, 1) for x in units.unbind(1)]
    q, p, _ = step(oscillators, *start, method=kind(temperature=0.0))
    M = torch.cat([q, p], -1)[:2, 0].T
    rest = torch.zeros(8, 1, 1, dtype=torch.float64)
    q, p, _ = step(oscillators, rest, rest, method=kind(seed=3))
    name = {"seed": 3, "trajectory": torch.arange(8), "step": 0, "num_particles": 1, "dim": 1}
    xi = torch.cat([normal_noise(stream=s, **name)[:, 0] for s in range(kind().contacts)], 1)
    R = torch.linalg.lstsq(xi, torch.cat([q, p], -1)[:, 0]).solution.T
    residual = float((xi @ R.T - torch.cat([q, p], -1)[:, 0]).abs().max())
    assert residual < ROUND_OFF, f"the noise is not linear in the documented numbers: {residual:.1e}"
    equation = torch.eye(4, dtype=torch.float64) - torch.kron(M, M)
    return torch.linalg.solve(equation, (R @ R.T).flatten()).reshape(2, 2)


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0, 1.5, 1.9])
def test_stationary_variances_are_those_of_theory(h: float) -> None:
    """BAOAB and its leapfrog form have exact positions at every stable step, the latter and OBABO exact momenta."""
    m, shrunk = 2.5, 1 - h**2 / 4
    exact = {BAOAB: (1, shrunk), LangevinMiddle: (1, 1), OBABO: (1 / shrunk, 1)}
    for kind, (q_share, p_share) in exact.items():
        covariance = stationary_covariance(kind, h, mass=m)
        error = abs(float(covariance[0, 0]) * m / q_share - 1)
        assert error < EXACT, f"{kind.name} q: {error:.1e} > {EXACT:.1e}"
        error = abs(float(covariance[1, 1]) / (m * p_share) - 1)
        assert error < EXACT, f"{kind.name} p: {error:.1e} > {EXACT:.1e}"


def sampled_variance_error(kind: type, h: float) -> float:
    """Of q after a long run from 20000 independent starts; in standard errors √(2/20000) = 1 %."""
    oscillators = Oscillators(torch.ones(2000, 5, dtype=torch.float64))
    zero = torch.zeros(2000, 5, 2, dtype=torch.float64)
    q, _, _ = advance(
        oscillators, zero, zero, step_size=h, num_steps=math.ceil(30 / h), method=kind(friction=1.0, seed=2)
    )
    return (float(q.square().mean()) - 1) / math.sqrt(2 / q.numel())


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0, 1.5, 1.9])
def test_baoab_samples_positions_without_bias(h: float) -> None:
    error = sampled_variance_error(BAOAB, h)
    assert abs(error) < STANDARD_ERRORS, (
        f"{error:.1f} standard errors"
    )  # measured: 0.7, 0.8, −0.3, −0.3, −0.4


def test_sampling_test_notices_obabo() -> None:
    assert sampled_variance_error(OBABO, 1.5) > 20 * STANDARD_ERRORS  # measured: 130


@WORDS
def test_kinetic_temperature_passes_a_chi_square_test(kind: type) -> None:
    """Σ p²/(m k_B T) of n independent momenta of different mass is χ²(n), at a step whose bias is far below."""
    masses = torch.tensor([0.3, 1.0, 7.0, 40.0, 2.0]).double().expand(2000, 5)
    method = kind(temperature=0.7, friction=3.0, seed=8)
    q, p = random_state(2000, 5, 2)
    q, p, _ = advance(
        Oscillators(masses, masses[..., None]), q, p, step_size=0.05, num_steps=300, method=method
    )
    terms = p.square() / (0.7 * masses[..., None])
    for mass in range(5):
        statistic = float(terms[:, mass].sum())
        both = 2 * min(stats.chi2(4000).cdf(statistic), stats.chi2(4000).sf(statistic))
        assert both > 1e-3, f"particle {mass}: χ²/n = {statistic / 4000:.3f}"
    wrong = float(terms.sum()) * 1.05
    assert stats.chi2(20_000).sf(wrong) < 1e-3, "the test is blind to 5 % in temperature"


# --- symmetry: noise knows seed, trajectory and step only


def build(kind: type, **options: float) -> Method:
    return kind(temperature=0.5, **options)


@ALL
def test_trajectory_is_the_same_alone_and_in_a_batch(kind: type) -> None:
    masses = torch.rand(8, 3, dtype=torch.float64) + 0.5
    q, p = random_state(8, 3, 2)
    run = partial(advance, step_size=0.1, num_steps=7, method=build(kind))
    names = {"trajectory": torch.arange(8) + 20} if kind().stochastic else None
    together = run(Oscillators(masses), q, p, memory=names)
    for i in range(8):
        row = slice(i, i + 1)
        memory = None if names is None else {"trajectory": names["trajectory"][row]}
        alone = run(Oscillators(masses[row]), q[row], p[row], memory=memory)
        for a, b in zip(alone[:2], together[:2], strict=True):
            assert torch.equal(a, b[row])
        assert all(torch.equal(alone[2][key], together[2][key][row]) for key in alone[2])


@STOCHASTIC
def test_other_names_and_seeds_give_other_trajectories(kind: type) -> None:
    q, p = random_state(1, 3, 2)
    run = partial(advance, Oscillators(torch.ones(1, 3).double()), q, p, step_size=0.1, num_steps=1)
    ends = [run(method=build(kind))[1], run(method=build(kind, seed=1))[1]]
    ends.append(run(method=build(kind), memory={"trajectory": torch.tensor([1])})[1])
    assert len({end.sum().item() for end in ends}) == 3
    same = advance(
        Oscillators(torch.ones(2, 3).double()),
        q.expand(2, 3, 2),
        p.expand(2, 3, 2),
        step_size=0.1,
        num_steps=1,
        method=build(kind),
    )[1]
    assert not torch.equal(same[0], same[1]), "two trajectories of a batch share their noise"


@ALL
@pytest.mark.parametrize("way", ["mass", "mask"])
def test_padding_changes_nothing_and_stays_finite(way: str, kind: type) -> None:
    system, (q, p) = Springs(num_particles=5), random_state(2, 5, 2)
    masses = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0]]).double().expand(2, 5)
    exists = (masses > 0)[..., None]
    attributes = torch.where(exists, torch.ones(2, 5, 1).double(), 0.0)
    masses = masses if way == "mass" else torch.where(exists[..., 0], masses, 9.0)
    padded = Particles(masses=masses, attributes=attributes, mask=exists[..., 0] if way == "mask" else None)
    q, p = torch.where(exists, q, 0.0), torch.where(exists, p, 0.0)
    real = Particles(masses=masses[:, :3].clone(), attributes=attributes[:, :3].clone())
    run = partial(advance, step_size=0.05, num_steps=6, method=build(kind))
    ours = run(SystemDynamics(system, padded), q, p)
    theirs = run(SystemDynamics(Springs(num_particles=3), real), q[:, :3], p[:, :3])
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert float((a[:, :3] - b).abs().max()) < ROUND_OFF
        assert not bool(a[:, 3:].any()), "padding got noise"


@ALL
def test_gradients_of_a_padded_batch_are_finite(kind: type) -> None:
    masses = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    q, p = (x.requires_grad_(True) for x in random_state(1, 3, 2))
    end, _, _ = advance(Oscillators(masses), q, p, step_size=0.1, num_steps=3, method=build(kind))
    gradients = torch.autograd.grad(end[:, :2].square().sum(), (q, p))
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert not any(bool(g[:, 2].any()) for g in gradients)


@ALL
def test_a_particle_of_infinite_mass_stands_still(kind: type) -> None:
    masses = torch.tensor([[1.0, math.inf]]).double()
    q, p = random_state(1, 2, 2)
    end, _, _ = advance(Oscillators(masses), q, p, step_size=0.1, num_steps=3, method=build(kind))
    assert torch.equal(end[:, 1], q[:, 1])
    assert bool(end.isfinite().all())


# --- border: resume, zero steps, limits, gradients, refusals


@ALL
def test_run_in_pieces_is_the_same_to_the_bit(kind: type) -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    run = partial(advance, oscillators, step_size=0.1, method=build(kind))
    whole = run(q, p, num_steps=30)
    pieces, memory = (q, p), None
    for num_steps in (1, 0, 12, 17):
        *pieces, memory = run(*pieces, num_steps=num_steps, memory=memory)
    assert all(torch.equal(a, b) for a, b in zip(pieces, whole[:2], strict=True))
    assert memory.keys() == whole[2].keys()
    assert all(torch.equal(memory[key], whole[2][key]) for key in memory)


@ALL
@pytest.mark.parametrize("h", [0.0, [0.1, 0.0, 0.2]])
def test_a_step_of_length_zero_changes_nothing(h: float | list[float], kind: type) -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    run = partial(advance, oscillators, num_steps=2, method=build(kind))
    q, p, memory = run(q, p, step_size=0.1)
    after = run(q, p, step_size=h if h == 0 else torch.tensor(h).double(), memory=memory)
    assert torch.equal(after[0][1], q[1])
    assert torch.equal(after[1][1], p[1])
    for key in memory:
        assert torch.equal(after[2][key][1], memory[key][1]) or key == "force", key
    moved = not torch.equal(after[1][2], p[2])
    assert moved == (h != 0)


@pytest.mark.parametrize("kind", [BAOAB, OBABO], ids=lambda kind: kind.name)
def test_without_friction_it_is_leapfrog(kind: type) -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    run = partial(advance, oscillators, q, p, step_size=0.1, num_steps=20)
    ours, theirs = run(method=kind(friction=0.0)), run(method="leapfrog")
    assert float((ours[0] - theirs[0]).abs().max()) < ROUND_OFF


@STOCHASTIC
def test_at_zero_temperature_there_is_no_noise_and_everything_comes_to_rest(kind: type) -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    ends = [
        advance(oscillators, q, p, step_size=0.1, num_steps=900, method=kind(temperature=0.0, seed=seed))[:2]
        for seed in (0, 1)
    ]
    assert torch.equal(ends[0][0], ends[1][0])
    assert float(torch.cat(ends[0]).abs().max()) < 1e-6


@ALL
def test_force_evaluations(kind: type) -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    _, _, memory = advance(oscillators, q, p, step_size=0.1, num_steps=10, method=kind())
    assert oscillators.calls == (10 if kind is LangevinMiddle else 11)
    advance(oscillators, q, p, step_size=0.1, num_steps=10, method=kind(), memory=memory)
    assert oscillators.calls == (20 if kind is LangevinMiddle else 21)


@ALL
def test_gradient_at_fixed_noise_is_that_of_finite_differences(kind: type) -> None:
    def run(q: Tensor, p: Tensor, h: Tensor, masses: Tensor, stiffness: Tensor) -> tuple[Tensor, Tensor]:
        oscillators = Oscillators(masses, stiffness)
        q, p, _ = advance(oscillators, q, p, step_size=h, num_steps=3, method=build(kind))
        return q, p

    q, p = random_state(2, 2, 2)
    others = ([0.1, 0.2], [[1.0, 2.0], [0.5, 1.5]], 1.3)
    inputs = [x.requires_grad_(True) for x in (q, p, *(torch.tensor(x).double() for x in others))]
    assert torch.autograd.gradcheck(run, inputs)


@ALL
def test_gradient_reaches_a_learned_potential_and_learned_masses(
    kind: type, pair_potential: EnergyModel
) -> None:
    H = Hamiltonian(pair_potential, masses="learned", num_attributes=1).double()
    bound = H.bind(Particles(masses=torch.ones(2, 3).double(), attributes=torch.ones(2, 3, 1).double()))
    q, p = random_state(2, 3, 2)
    q, _ = integrate(bound, q, p, step_size=0.1, num_steps=3, method=build(kind))
    q[:, -1].square().sum().backward()
    assert all(bool(w.grad.isfinite().all()) for w in H.log_mass.parameters())
    assert any(bool(w.grad.any()) for w in H.log_mass.parameters())
    assert any(w.grad is not None and bool(w.grad.any()) for w in pair_potential.parameters())


@ALL
def test_dtype_is_that_of_the_state(kind: type) -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    run = partial(advance, step_size=0.1, num_steps=3, method=build(kind))
    single = run(Oscillators(torch.ones(3, 2)), q.float(), p.float())
    assert all(x.dtype == torch.float32 for x in single[:2])
    double = run(oscillators, q, p)
    error = float((single[0] - double[0]).abs().max())
    assert error < 1e-5, f"{error:.1e}"  # measured: 5e-7


def test_every_name_builds_and_options_are_checked() -> None:
    for kind in (*LANGEVIN, CSVR, NoseHooverChain):
        method = get_method(kind.name, temperature=0.25)
        assert isinstance(method, kind)
        assert method.temperature == 0.25
        assert len(method.citation) > 20
        assert not method.symplectic
        assert replace(method) == method
        with pytest.raises(ValueError, match=r"temperature is k_B T .* must be finite and >= 0; got -1"):
            kind(temperature=-1.0)
    with pytest.raises(ValueError, match="friction is a rate in 1/time, finite and >= 0; got -1"):
        BAOAB(friction=-1.0)
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 2\*\*64 - 1, got -1"):
        BAOAB(seed=-1)
    with pytest.raises(
        ValueError, match="baoab has no option gamma; its options are temperature, seed, friction"
    ):
        get_method("baoab", gamma=1.0)


def test_what_cannot_be_thermostatted_is_refused() -> None:
    oscillators, (q, p) = Oscillators(torch.ones(3, 2).double()), random_state(3, 2, 3)
    run = partial(advance, oscillators, q, p, num_steps=1, method="baoab")

    class Massless:
        def force(self, q: Tensor) -> Tensor:
            return -q

        def velocity(self, p: Tensor) -> Tensor:
            return p

    with pytest.raises(
        TypeError, match=r"needs the masses, which Massless does not tell: give it .* \(B, N\)"
    ):
        advance(Massless(), q, p, step_size=0.1, num_steps=1, method="baoab")
    with pytest.raises(ValueError, match=r"shape \(B, N\) = \(3, 2\) of the positions; got \(3, 4\)"):
        advance(Oscillators(torch.ones(3, 4)), q, p, step_size=0.1, num_steps=1, method="baoab")
    with pytest.raises(ValueError, match="baoab draws noise and cannot run backwards"):
        run(step_size=-0.1)
    with pytest.raises(
        ValueError, match=r"int64, one name per system, shape \(3,\); got torch.int64, shape \(2,\)"
    ):
        run(step_size=0.1, memory={"trajectory": torch.arange(2)})
    with pytest.raises(ValueError, match=r"must be from 0 to 4294967295; got \[-1, 0, 1\]"):
        run(step_size=0.1, memory={"trajectory": torch.arange(3) - 1})
