"""The experiment with QM9: from molecules to a table of errors, on a stand-in of 60 molecules, and what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from lie_sim import load_model
from lie_sim.data.molecules import Molecules
from lie_sim.data.qm9 import QM9_TARGETS
from lie_sim.data.structure_files import from_atoms
from lie_sim.errors import ConfigError
from lie_sim.experiments import Qm9Config, Qm9Experiment, open_run
from lie_sim.experiments import qm9 as module_of
from lie_sim.experiments.molecules import molecules_model, molecules_se3_model
from lie_sim.experiments.qm9 import QM9_HEADS, qm9_training, reported
from lie_sim.models import SE3Transformer, evaluate
from lie_sim.state import Particles
from lie_sim.units import BOHR, DEBYE

SMALL = replace(molecules_model(), width=16, num_heads=8, num_moments=4, kernel_hidden=16)


def stand_in(count: int = 60) -> Molecules:
    """Shaken molecules with every target of QM9: sums over elements, and a dipole that sees the geometry."""
    random, systems = np.random.default_rng(0), []
    for k in range(count):
        atoms = molecule(("H2O", "CH3OH", "NH3", "C2H6")[k % 4])
        atoms.positions += 0.1 * random.standard_normal(atoms.positions.shape)
        systems.append(atoms)
    made = from_atoms(systems)
    values = {name: made.sizes * 1.0 + random.standard_normal(count) for name in QM9_TARGETS}
    six = 10 + random.standard_normal((count, 6))
    charge = (made.numbers - 6.0) / 10
    moments = [
        (charge[a:b, None] * (made.positions[a:b] - made.positions[a:b].mean(0))).sum(0)
        for a, b in itertools.pairwise(made.offsets)
    ]
    more = {"mu": np.linalg.norm(moments, axis=1) / DEBYE, "polarizability": six, "charges": charge}
    return replace(made, values=values | more)


@pytest.fixture(autouse=True)
def small_qm9(monkeypatch) -> None:
    """Neither the tables nor the split of the real data."""
    data = stand_in()
    monkeypatch.setattr(module_of, "qm9", lambda **_: data)

    def splits(*, seed: int, train: int, validation: int) -> dict[str, np.ndarray]:
        return {
            "train": np.arange(train),
            "validation": np.arange(40, 40 + validation),
            "test": np.arange(50, 60),
        }

    monkeypatch.setattr(module_of, "qm9_splits", splits)


def config(**changes) -> Qm9Config:
    training = replace(
        qm9_training(), max_steps=60, max_cpu_seconds=0.0, warmup_steps=5, validate_every=30, ema_decay=0.9
    )
    options = {"num_train": 40, "num_validation": 10, "num_test": 10, "model": SMALL, "training": training}
    return Qm9Config(**(options | changes))


def test_from_molecules_to_a_table_beside_the_composition(tmp_path) -> None:
    experiment = Qm9Experiment(
        config(targets=("mu", "charges", "alpha", "principal", "homo", "r2", "U0", "Cv"))
    )
    before = experiment.task().validate(experiment.build().double())
    result = experiment.run(tmp_path / "run", progress=False)
    assert result.validation["mu_mae"] < 0.7 * before["mu_mae"]
    again = open_run(tmp_path / "run").evaluate_run(tmp_path / "run", progress=False)
    assert again.report.comparison is not None
    assert [row[:2] for row in again.report.comparison.rows][:2] == [["mu", "D"], ["charges", "e"]]
    test, model = experiment.splits["test"], load_model(tmp_path / "run" / "model").double()
    told = [evaluate(model, *inputs_of(test, k)).properties["dipole"].norm().item() for k in range(len(test))]
    mae = np.abs(np.array(told) / DEBYE - test.values["mu"]).mean()
    assert again.results["mae_mu"] == pytest.approx(mae, rel=1e-4)  # it was evaluated in float32
    assert again.results["baseline_mae_charges"] < 1e-12  # here they follow from the elements
    counts = np.concatenate([stand_in().composition(test.elements), np.ones((60, 1))], 1)
    shown = {each.label: each for each in again.report.parity}
    assert list(shown) == ["mu", "charges", "alpha", "principal", "homo", "r2", "U0", "Cv"]
    for name, each in shown.items():
        assert each.figures["mae"] == pytest.approx(again.results[f"mae_{name}"]), name
    assert (shown["mu"].unit, shown["U0"].unit, shown["U0"].error_unit) == ("D", "eV", "meV")
    fit = np.linalg.lstsq(counts[:40], stand_in().values["U0"][:40], rcond=None)[0]
    own = reported("U0")[1] / 1000 * (test.values["U0"] - counts[50:] @ fit)
    np.testing.assert_allclose(np.sort(shown["U0"].true), np.sort(own), rtol=1e-5)
    fit = np.linalg.lstsq(counts[:40], stand_in().values["Cv"][:40], rcond=None)[0]
    exact = np.abs(counts[50:] @ fit - test.values["Cv"]).mean()
    assert again.results["baseline_mae_Cv"] == pytest.approx(exact, rel=1e-9)


def test_an_se3_transformer_learns_the_same_targets(tmp_path) -> None:
    pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
    small = replace(molecules_se3_model(), width=8, num_heads=2, num_layers=1, kernel_hidden=8)
    experiment = Qm9Experiment(config(model=small, targets=("mu", "alpha", "homo", "r2", "U0")))
    untrained = experiment.build()
    assert isinstance(untrained.network, SE3Transformer)
    before = experiment.task().validate(untrained.double())
    after = experiment.run(tmp_path / "run", progress=False).validation
    assert after["mu_mae"] < 0.7 * before["mu_mae"]
    assert isinstance(load_model(tmp_path / "run" / "model").network, SE3Transformer)


def inputs_of(data: Molecules, k: int):
    one = data[[k]]
    q = torch.from_numpy(one.positions)[None]
    return q, Particles(masses=torch.ones(q.shape[:2]).double(), species=torch.from_numpy(one.numbers)[None])


def test_a_model_of_all_targets_has_a_head_for_each_and_no_energy() -> None:
    model = Qm9Experiment(config()).build()
    assert not model.has_energy
    assert set(QM9_HEADS) == {*QM9_TARGETS, "charges", "principal"}
    assert {target.head for target in QM9_HEADS.values()} == set(model.properties)


def test_eigenvalues_are_those_of_the_tensor() -> None:
    parts = module_of.with_eigenvalues(stand_in()).values
    assert np.abs(parts["principal"].mean(1) - parts["polarizability"][:, [0, 2, 5]].mean(1)).max() < 1e-12
    assert np.abs(parts["principal"].prod(1) - np.linalg.det(full(parts["polarizability"]))).max() < 1e-9
    assert (np.diff(parts["principal"]) >= 0).all()


def full(six: np.ndarray) -> np.ndarray:
    return six[:, [0, 1, 3, 1, 2, 4, 3, 4, 5]].reshape(-1, 3, 3)


def test_units_are_those_of_the_literature() -> None:
    assert QM9_HEADS["alpha"].factor == BOHR**3
    assert reported("U0") == ("meV", pytest.approx(27211.386245988))
    assert reported("Cv") == ("cal/(mol K)", 1.0)


def test_what_is_impossible_is_said() -> None:
    with pytest.raises(ConfigError, match=r"targets must be some of mu, alpha, .* got colour"):
        Qm9Config(targets=("colour",))
    with pytest.raises(ConfigError, match="each once, got mu, mu"):
        Qm9Config(targets=("mu", "mu"))
    with pytest.raises(ConfigError, match="num_train must be 1 to 100,000, got 200,000"):
        Qm9Config(num_train=200_000)
