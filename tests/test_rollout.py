"""Rollouts: equal to the stepper and to the truth, undisturbed by systems that diverge, chunked, without graphs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from lie_sim import GeneralHamiltonian, Hamiltonian, LieTransformer, Particles, PhaseState
from lie_sim.integrators import SystemDynamics, integrate
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix, neighbour_matrix
from lie_sim.rollout import RolloutResult, energy_change, mean_squared_error, rollout
from lie_sim.systems import Springs

SYSTEM = Springs(num_particles=3)
EXACT_ERROR = 1e-8  # pefrl, h = 0.005, t = 1; measured: 1.7e-9
ENERGY_ERROR = 1e-8  # measured: 1.4e-9


def springs(num_systems: int = 4) -> tuple[PhaseState, Particles]:
    return SYSTEM.sample(num_systems, generator=torch.Generator().manual_seed(1))


class Runaway(EnergyModel):
    """Springs of strength 1, but V = −q⁴ for particles of species 1, which leave for infinity in finite time."""

    def forward(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Tensor:
        if not bool(q.isfinite().all()) and self.strict:
            raise AssertionError("a diverged state was given to the model")
        size = q.square().sum(-1)
        return torch.where(particles.species == 1, -size.square(), size / 2)

    strict = False


def runaway_batch() -> tuple[PhaseState, Particles]:
    """Four systems of two particles; number 1 diverges soon, number 3 a little later."""
    generator = torch.Generator().manual_seed(2)
    q, p = (torch.randn(4, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    q[1], q[3] = 2.0, 0.8
    p[1] = p[3] = 0.1
    species = torch.tensor([[0, 0], [1, 1], [0, 0], [1, 0]])
    return PhaseState(q=q, p=p), Particles(masses=torch.ones(4, 2, dtype=torch.float64), species=species)


RUN = partial(rollout, Hamiltonian(Runaway()), step_size=0.02, num_steps=80)


def test_rollout_of_the_true_system_is_exact() -> None:
    state, particles = springs()
    result = rollout(SYSTEM, state, particles, step_size=0.01, num_steps=100, substeps=2, save_every=10)
    assert result.times.tolist() == pytest.approx([0.1 * k for k in range(11)])
    error = (
        mean_squared_error(result, SYSTEM.trajectory(state, particles, result.times)).per_system.sqrt().max()
    )
    assert error < EXACT_ERROR, f"{error:.1e} > {EXACT_ERROR:.1e}"
    drift = (result.energy / result.energy[:, :1] - 1).abs().max()
    assert drift < ENERGY_ERROR, f"{drift:.1e} > {ENERGY_ERROR:.1e}"
    assert not result.diverged.any()


def test_rollout_equals_the_stepper_to_the_bit() -> None:
    state, particles = springs()
    options = {"num_steps": 20, "save_every": 5}
    result = rollout(SYSTEM, state, particles, step_size=0.01, method="leapfrog", **options)
    q, p = integrate(SystemDynamics(SYSTEM, particles), state.q, state.p, step_size=0.01, **options)
    assert torch.equal(result.q, q)
    assert torch.equal(result.p, p)
    energy = [SYSTEM.energy(PhaseState(q[:, k], p[:, k]), particles) for k in range(5)]
    assert torch.equal(result.energy, torch.stack(energy, 1))


def test_substeps_are_steps_of_a_fraction() -> None:
    state, particles = springs()
    coarse = rollout(SYSTEM, state, particles, step_size=0.02, num_steps=10, substeps=4)
    fine = rollout(SYSTEM, state, particles, step_size=0.005, num_steps=40, save_every=4)
    assert torch.equal(coarse.q, fine.q)


def test_learned_hamiltonian_keeps_its_energy_and_builds_no_graph() -> None:
    torch.manual_seed(0)
    model = LieTransformer.default(dim=2)
    state, particles = springs(1)
    state = PhaseState(q=state.q.float().requires_grad_(True), p=state.p.float())
    particles = Particles(masses=particles.masses.float())
    result = rollout(Hamiltonian(model), state, particles, step_size=0.01, num_steps=1, method="leapfrog")
    assert result.q.dtype == torch.float32
    assert not result.q.requires_grad
    assert not result.energy.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (result.energy - result.energy[:, :1]).abs().max() < 1e-4


def test_diverged_systems_become_nan_and_stay_so() -> None:
    result = RUN(*runaway_batch(), save_every=1)
    assert result.diverged.tolist() == [False, True, False, True]
    for values in (result.q.flatten(2), result.p.flatten(2), result.energy[..., None]):
        missing = values.isnan().any(-1)
        assert torch.equal(missing, values.isnan().all(-1)), "a state is NaN only in part"
        assert bool((missing.int().diff(dim=1) >= 0).all()), "a diverged system came back"
        first = missing.int().argmax(1)
        assert not missing[:, 0].any()
        assert 0 < int(first[1]) < int(first[3])
        assert not missing[[0, 2]].any()
    finite = result.q[~result.q.isnan()]
    assert finite.abs().max() <= 1e6


@pytest.mark.parametrize("method", ["leapfrog", "pefrl"])
def test_the_others_go_on_unchanged_to_the_bit(method: str) -> None:
    """The same batch with tame particles in place of the runaways."""
    state, particles = runaway_batch()
    tame = replace(particles, species=torch.zeros_like(particles.species))
    wild, calm = (RUN(state, kinds, method=method) for kinds in (particles, tame))
    assert wild.diverged.any()
    assert not calm.diverged.any()
    for index in (0, 2):
        assert torch.equal(wild.q[index], calm.q[index])
        assert torch.equal(wild.energy[index], calm.energy[index])


def test_a_diverged_state_is_not_computed_with_again() -> None:
    """A bound far below infinity catches every runaway before the model sees anything that is not finite."""
    strict = Runaway()
    strict.strict = True
    result = rollout(
        Hamiltonian(strict),
        *runaway_batch(),
        step_size=0.02,
        num_steps=80,
        divergence_bound=5.0,
    )
    assert result.diverged.tolist() == [False, True, False, True]


def test_initial_state_that_is_not_finite_is_diverged_from_the_start() -> None:
    state, particles = springs()
    state.q[2, 0, 0] = torch.nan
    result = rollout(SYSTEM, state, particles, step_size=0.01, num_steps=5)
    assert result.diverged.tolist() == [False, False, True, False]
    assert result.q[2].isnan().all()
    assert not result.q[[0, 1, 3]].isnan().any()


def test_everything_may_diverge() -> None:
    state, particles = runaway_batch()
    result = RUN(PhaseState(state.q[1:2], state.p[1:2]), particles[1:2])
    assert result.diverged.all()
    assert result.q.shape == (1, 81, 2, 2)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_chunks_change_nothing(batch_size: int) -> None:
    whole = RUN(*runaway_batch(), save_every=20, batch_size=100)
    parts = RUN(*runaway_batch(), save_every=20, batch_size=batch_size)
    assert torch.equal(whole.diverged, parts.diverged)
    torch.testing.assert_close(parts.q, whole.q, rtol=1e-12, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(parts.energy, whole.energy, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_neighbours_are_cut_with_the_batch() -> None:
    class Seen(EnergyModel):
        def forward(
            self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None
        ) -> Tensor:
            assert neighbours is not None
            separation = q.gather(1, neighbours.index[..., :1].expand_as(q)) - q
            return (separation.square().sum(-1) * neighbours.mask[..., 0]) / 2

    state, particles = springs()
    found = neighbour_matrix(state.q, particles, cutoff=10.0)
    run = partial(
        rollout, Hamiltonian(Seen()), state, particles, step_size=0.01, num_steps=10, neighbours=found
    )
    torch.testing.assert_close(run(batch_size=1).q, run().q, rtol=1e-12, atol=1e-12)


def test_progress_is_shown_only_when_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    state, particles = springs()
    run = partial(rollout, SYSTEM, state, particles, step_size=0.01, num_steps=10, batch_size=3)
    run()
    assert capsys.readouterr().err == ""
    run(progress=True)
    captured = capsys.readouterr()
    assert "40/40" in captured.err
    assert captured.out == ""


def by_hand(q: Tensor, diverged: list[bool]) -> RolloutResult:
    times = torch.arange(q.shape[1], dtype=torch.float64)
    return RolloutResult(times, q, torch.zeros_like(q), q.sum((2, 3)), torch.tensor(diverged))


def test_mean_squared_error_by_hand() -> None:
    q = torch.zeros(2, 3, 2, 1)
    q[0] = torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    q[1, 1:] = torch.nan
    result, zero = by_hand(q, [False, True]), torch.zeros_like(q)
    error = mean_squared_error(result, (zero, zero), quantity="q")
    assert error.mean.tolist() == [0.0, 1.0, 4.0]
    assert error.diverged_share.tolist() == [0.0, 0.5, 0.5]
    assert error.per_system[0].tolist() == [0.0, 1.0, 4.0]
    assert error.per_system[1].isnan().tolist() == [False, True, True]
    assert mean_squared_error(result, (zero, zero)).mean.tolist() == [0.0, 0.5, 2.0]
    assert mean_squared_error(result, (zero, zero + 3), quantity="p").mean[0] == 9.0
    nobody_left = mean_squared_error(by_hand(q[1:], [True]), (zero[1:], zero[1:]), quantity="q")
    assert nobody_left.mean[0] == 0.0
    assert nobody_left.mean[1:].isnan().all()


def test_mean_squared_error_leaves_padding_out() -> None:
    q = torch.zeros(1, 2, 2, 1)
    q[:, :, 1] = torch.nan
    q[:, :, 0] = 2.0
    mask = torch.tensor([[True, False]])
    zero = torch.zeros_like(q)
    error = mean_squared_error(by_hand(q, [False]), (zero, zero), quantity="q", mask=mask)
    assert error.mean.tolist() == [4.0, 4.0]


def test_wrong_input_is_named() -> None:
    state, particles = springs()
    run = partial(rollout, SYSTEM, state, particles, step_size=0.01)
    with pytest.raises(ValueError, match="multiple of save_every"):
        run(num_steps=7, save_every=2)
    with pytest.raises(ValueError, match="substeps and batch_size must be >= 1"):
        run(num_steps=4, substeps=0)
    with pytest.raises(ValueError, match="substeps and batch_size must be >= 1"):
        run(num_steps=4, batch_size=0)
    with pytest.raises(ValueError, match=r"beyond divergence_bound=0\.001: raise divergence_bound"):
        run(num_steps=4, divergence_bound=1e-3)
    with pytest.raises(ValueError, match="unknown method 'rk4'"):
        run(num_steps=4, method="rk4")
    with pytest.raises(ValueError, match="must hold the same systems"):
        rollout(SYSTEM, state, particles[:2], step_size=0.01, num_steps=4)
    result = run(num_steps=4)
    with pytest.raises(ValueError, match=r"q of the truth must have the shape .* \(4, 5, 3, 2\)"):
        mean_squared_error(result, (result.q[:, 1:], result.p[:, 1:]))
    with pytest.raises((ValueError, TypeCheckError)):
        mean_squared_error(result, (result.q, result.p), quantity="x")


def test_energies_that_cannot_be_split_are_refused() -> None:
    state, particles = springs()
    mixed = GeneralHamiltonian(lambda q, p, particles: (q * p).sum((1, 2)))
    with pytest.raises(TypeError):
        rollout(mixed, state, particles, step_size=0.01, num_steps=1)


def test_energy_changes_are_in_units_of_the_mean_kinetic_energy() -> None:
    state, particles = springs()
    path = rollout(SYSTEM, state, particles, step_size=0.05, num_steps=20, method="leapfrog")
    kinetic = torch.stack([SYSTEM.kinetic_energy(path.p[:, k], particles) for k in range(21)], 1)
    expected = (path.energy - path.energy[:, :1]) / kinetic.mean(1, keepdim=True)
    assert torch.allclose(energy_change(path, particles), expected, rtol=0, atol=1e-14)
    shifted = energy_change(path, particles, energy=path.energy - 100)  # the zero is arbitrary
    assert torch.allclose(shifted, expected, rtol=0, atol=1e-10)


def test_energy_changes_of_diverged_resting_and_padded_systems() -> None:
    state, particles = runaway_batch()
    path = RUN(state, particles)
    change = energy_change(path, particles)
    assert torch.equal(change.isnan(), path.energy.isnan())
    assert bool(path.energy[1].isnan().any())
    still = replace(path, p=torch.zeros_like(path.p))
    assert bool(energy_change(still, particles).isnan().all())
    masses = torch.cat([particles.masses, torch.zeros(4, 1, dtype=torch.float64)], 1)  # no particle, no mass
    mask = torch.tensor([[True, True, False]]).expand(4, -1)
    nobody = torch.zeros_like(path.p[:, :, :1])
    padded = replace(path, q=torch.cat([path.q, nobody], 2), p=torch.cat([path.p, nobody], 2))
    found = energy_change(padded, Particles(masses=masses, mask=mask))
    assert torch.equal(found.nan_to_num(), change.nan_to_num())
