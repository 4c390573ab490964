"""Figures of dynamics experiments: zero for the truth, known values for known errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lie_sim.data import Trajectories, make_trajectories
from lie_sim.experiments.dynamics import (
    energy_change_along,
    energy_curves,
    energy_note,
    magnitude,
    score_rollout,
)
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import LieTransformer
from lie_sim.report import ReportData, write_report
from lie_sim.state import Particles
from lie_sim.systems import Springs

INTEGRATOR = 1e-12  # squared error of PEFRL with a step of 0.01 over 20 steps; measured 8e-14
ENERGY = 1e-5  # its energy change / mean kinetic energy; measured 1e-6


@pytest.fixture(scope="module")
def truth() -> Trajectories:
    times = 0.01 * torch.arange(21, dtype=torch.float64)
    return make_trajectories(Springs(), 5, seed=3, times=times)


def test_the_exact_system_has_no_error(truth: Trajectories) -> None:
    scores = score_rollout(Springs(), truth)
    assert max(scores.mean, scores.median, scores.last) < INTEGRATOR
    assert scores.diverged_share == 0
    assert float(energy_change_along(Springs(), scores.predicted, truth).abs().max()) < ENERGY


def test_a_known_error_is_measured(truth: Trajectories) -> None:
    """Momenta shifted by 0.1 after the start: a mean square of 0.01/2 at every time but the first."""
    shifted = truth.p.clone()
    shifted[:, 1:] += 0.1
    scores = score_rollout(Springs(), replace(truth, p=shifted))
    assert scores.last == pytest.approx(0.005, rel=1e-6)
    assert scores.mean == pytest.approx(0.005 * 20 / 21, rel=1e-6)
    assert scores.median == pytest.approx(0.005 * 20 / 21, rel=1e-6)


def test_a_diverged_system_is_counted_and_left_out(truth: Trajectories) -> None:
    q = truth.q.clone()
    q[0, 0] *= 9e5 / q[0, 0].abs().max()  # as far as a start may be; the momenta go beyond
    scores = score_rollout(Springs(), replace(truth, q=q))
    assert scores.diverged_share == pytest.approx(0.2)
    assert scores.mean < INTEGRATOR


def test_a_float32_model_meets_float64_data(truth: Trajectories) -> None:
    scores = score_rollout(Hamiltonian(LieTransformer.default(num_attributes=1, num_layers=1)), truth)
    assert scores.predicted.q.dtype == torch.float32
    assert 0 < scores.mean < 100


def test_the_energy_is_that_of_the_given_path(truth: Trajectories) -> None:
    """Energies are quadratic: twice the state has four times the energy, and here of the kinetic energy too."""
    scores = score_rollout(Springs(), truth)
    path = replace(scores.predicted, q=2 * scores.predicted.q, p=2 * scores.predicted.p)
    path.q[:, 0], path.p[:, 0] = truth.q[:, 0], truth.p[:, 0]
    found = energy_change_along(Springs(), path, truth)
    kinetic = Springs().kinetic_energy(path.p.flatten(0, 1), truth.particles.expand(path.p.shape[1]))
    scale = kinetic.reshape(len(truth), -1).mean(1)
    expected = 3 * Springs().energy(truth.state(0), truth.particles) / scale
    assert torch.allclose(found[:, 1:], expected[:, None].expand_as(found[:, 1:]), rtol=1e-5)
    assert bool((found[:, 0] == 0).all())


def test_the_zero_of_the_energy_does_not_matter(truth: Trajectories) -> None:
    class Shifted(Springs):
        def potential(self, q: torch.Tensor, particles: Particles) -> torch.Tensor:
            return super().potential(q, particles) + 1000

    torch.manual_seed(0)
    hamiltonian = Hamiltonian(LieTransformer.default(num_attributes=1, num_layers=1)).double()
    path = score_rollout(hamiltonian, truth).predicted
    found, shifted = (energy_change_along(system, path, truth) for system in (Springs(), Shifted()))
    assert torch.allclose(found, shifted, rtol=0, atol=1e-9)
    assert float(found.abs().max()) > 1e-2


def test_the_magnitude_leaves_out_what_is_not_finite() -> None:
    values = torch.tensor([[-3.0, 1.0], [4.0, float("nan")]])
    assert magnitude(values).tolist() == pytest.approx([3.5, 1.0])
    assert magnitude(values, quantile=1.0).tolist() == pytest.approx([4.0, 1.0])


def test_the_note_says_what_the_energies_are_of(truth: Trajectories) -> None:
    hamiltonian = Hamiltonian(LieTransformer.default(num_attributes=1, num_layers=1))
    found = energy_note(truth, score_rollout(hamiltonian, truth, method="leapfrog"), method="leapfrog")
    assert f"medians over {len(truth)} systems, the model's in float32, by leapfrog" in found
    one = energy_note(truth[:1], score_rollout(Springs(), truth[:1]), method="pefrl")
    assert "the one system that there is, the model's in float64, by pefrl" in one


def test_systems_at_rest_make_a_report(truth: Trajectories, tmp_path: Path) -> None:
    rest = replace(truth, q=torch.zeros_like(truth.q), p=torch.zeros_like(truth.p))
    scores = score_rollout(Springs(), rest)
    curves = energy_curves(Springs(), rest, scores, scores)
    assert all(np.isnan(values).all() for _, values in curves.values())
    page = write_report(ReportData(title="rest", energy_curves=curves), tmp_path)
    assert page.is_file()
    assert (tmp_path / "figures" / "energy_curves.png").is_file()


def test_energy_curves_tell_the_learned_energy_from_the_true_one(truth: Trajectories) -> None:
    torch.manual_seed(0)
    hamiltonian = Hamiltonian(LieTransformer.default(num_attributes=1, num_layers=1)).double()
    learned, exact = score_rollout(hamiltonian, truth), score_rollout(Springs(), truth)
    curves = energy_curves(Springs(), truth, learned, exact)
    largest = {name: float(values.max()) for name, (_, values) in curves.items()}
    assert largest["true H, same integrator"] < ENERGY
    assert largest["learned H, own trajectory"] < 1e-3 < largest["true H, learned trajectory"]
