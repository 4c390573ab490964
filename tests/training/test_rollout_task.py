"""Training through long rollouts: windows of trajectories, one gradient whatever the adjoint, constant memory."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.data import Trajectories, make_trajectories
from lie_sim.integrators.compiled_rates import _FUNCTIONS
from lie_sim.systems import Springs
from lie_sim.training import RolloutTask, TrainingConfig, dynamics_task, train
from tests.integrators.conftest import PairPotential

ADJOINTS = 1e-12
"""Relative, of the largest slope: rounding of 60 steps there and back; measured 3e-16."""
MEBIBYTES = 5.0
"""Of a step of 100 integrator steps beyond one of 10: the states at 10 observed times; measured 0.1, autograd 42."""


def springs(systems: int = 6, points: int = 21) -> Trajectories:
    times = torch.linspace(0, 0.01 * (points - 1), points, dtype=torch.float64)
    return make_trajectories(Springs(num_particles=3), systems, seed=0, times=times)


def small_model() -> Hamiltonian:
    torch.manual_seed(0)
    options = {"width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8}
    return Hamiltonian(LieTransformer.default(num_attributes=1, **options)).double()


def test_a_batch_holds_random_windows_of_the_chosen_trajectories() -> None:
    data = springs()
    task = RolloutTask(data, data, points=7)
    seen = set()
    for seed in range(20):
        batch = task.batch(torch.tensor([4, 1]), torch.Generator().manual_seed(seed))
        assert batch["q"].shape == batch["p"].shape == (2, 7, 3, 2)
        for row, system in enumerate([4, 1]):
            starts = (data.q[system] == batch["q"][row, 0]).flatten(1).all(1).nonzero().flatten()
            start = int(starts[0])
            seen.add(start)
            assert torch.equal(batch["q"][row], data.q[system, start : start + 7])
            assert torch.equal(batch["p"][row], data.p[system, start : start + 7])
            assert torch.equal(batch["particles.masses"][row], data.particles.masses[system])
    assert min(seen) >= 0
    assert max(seen) == 14  # the last window that there is
    assert len(seen) > 8


def test_every_adjoint_gives_the_same_gradient() -> None:
    data, module = springs(systems=2), small_model()
    slopes = {}
    for adjoint in ("autograd", "reversible", "checkpoint"):
        task = RolloutTask(data, data, method="leapfrog", substeps=3, adjoint=adjoint)
        loss = task.loss(module, task.batch(torch.arange(2), torch.Generator()))
        found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        slopes[adjoint] = torch.cat([x.flatten() for x in found if x is not None])
    for adjoint in ("reversible", "checkpoint"):
        error = float((slopes[adjoint] - slopes["autograd"]).abs().max() / slopes["autograd"].abs().max())
        assert error < ADJOINTS, f"{adjoint}: {error:.1e} > {ADJOINTS:.0e}"


def test_validation_follows_as_many_points_as_training() -> None:
    data, module = springs(), small_model()
    whole = RolloutTask(data, data).validate(module)["validation_loss"]
    part = RolloutTask(data, data, points=7).validate(module)["validation_loss"]
    cut = Trajectories(data.q[:, :7], data.p[:, :7], data.times[:7], data.particles)
    assert part == pytest.approx(RolloutTask(cut, cut).validate(module)["validation_loss"], rel=1e-12)
    assert part < whole


def test_training_by_stepping_back_learns_what_autograd_learns() -> None:
    """The same three updates of the weights in float64."""
    data, losses = springs(), []
    for adjoint in ("autograd", "reversible"):
        config = TrainingConfig(
            loss="rollout",
            rollout_method="leapfrog",
            rollout_substeps=2,
            rollout_points=11,
            rollout_adjoint=adjoint,
            max_steps=3,
            batch_size=4,
            warmup_steps=0,
            dtype="float64",
        )
        result = train(small_model(), dynamics_task(config, data, data), config, progress=False)
        losses.append(result.best_metric)
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training_learns_the_same() -> None:
    """Three updates in float64, each with other systems in its batch: one compilation serves them all."""
    data, losses = springs(), []
    for compiled in (False, True):
        torch.manual_seed(0)
        config = TrainingConfig(
            loss="rollout",
            rollout_method="leapfrog",
            rollout_points=11,
            rollout_adjoint="reversible",
            rollout_compile=compiled,
            max_steps=3,
            batch_size=4,
            warmup_steps=0,
            dtype="float64",
        )
        module = Hamiltonian(PairPotential())
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # of the fall-back
            result = train(module, dynamics_task(config, data, data), config, progress=False)
        losses.append(result.best_metric)
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert len(_FUNCTIONS[module.potential]) == 2  # forth and back


def test_impossible_options_are_refused() -> None:
    data = springs()
    for points in (1, 22):
        with pytest.raises(ValueError, match="from 2 to the 21 of the data, got"):
            RolloutTask(data, data, points=points)
    with pytest.raises(ValueError, match='adjoint must be "autograd", "reversible" or "checkpoint"'):
        RolloutTask(data, data, adjoint="continuous")
    with pytest.raises(
        ValueError, match="compile=True goes with adjoint=\"reversible\", not with 'autograd'"
    ):
        RolloutTask(data, data, compile=True)


@pytest.mark.parametrize("method", ["baoab", "csvr", "nose_hoover_chain", "rattle", "rkmk4", "gauss4"])
def test_other_methods_than_splittings_are_refused_at_once(method: str) -> None:
    with pytest.raises(
        ValueError, match=f"a splitting method, which {method} is not; use one of symplectic_"
    ):
        RolloutTask(springs(), springs(), method=method)


def test_a_method_that_cannot_be_reversed_is_refused_with_that_adjoint() -> None:
    with pytest.raises(ValueError, match="a step of symplectic_euler cannot be reversed: use leapfrog"):
        RolloutTask(springs(), springs(), method="symplectic_euler", adjoint="reversible")
    RolloutTask(springs(), springs(), method="symplectic_euler", adjoint="checkpoint")


MEMORY = """
import pathlib, re, sys, torch
sys.path.insert(0, FOLDER)
from test_rollout_task import RolloutTask, small_model, springs
torch.set_num_threads(1)
data, module = springs(systems=4), small_model()
def peak(points, adjoint):
    task = RolloutTask(data, data, method="leapfrog", substeps=10, points=points, adjoint=adjoint)
    task.loss(module, task.batch(torch.arange(4), torch.Generator())).backward()
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
peaks = [peak(2, "reversible"), peak(2, "reversible"), peak(11, "reversible"), peak(11, "autograd")]
print(peaks[2] - peaks[1], peaks[3] - peaks[2])
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_a_long_rollout_needs_the_memory_of_a_short_one() -> None:
    """MiB of a training step of 100 integrator steps beyond one of 10; autograd is the control."""
    program = MEMORY.replace("FOLDER", repr(str(pathlib.Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True
    )
    reversible, autograd = map(float, done.stdout.split())
    assert reversible < MEBIBYTES < 20 < autograd, done.stdout
