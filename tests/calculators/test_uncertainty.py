"""Calibrated uncertainty: closed forms, coverage of new structures, files, and what is said of strange structures."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lie_sim import save_model
from lie_sim.calculators import Calibration, LieTransformerCalculator, UncertaintyWarning
from lie_sim.calculators.calibrate import features_of
from lie_sim.calculators.linear_posterior import energy_deviations, posterior_factor
from lie_sim.errors import DataError, UncertaintyError
from lie_sim.models import AtomicPotential
from lie_sim.models.last_layer import last_features

SAME = 1e-12
SLOPE_ERROR = 1e-6  # relative, central differences of 1e-4 Å; measured: 2e-9
NUM_FEATURES = 33  # of the residual head of width 16: 2 · 16 + 1


def shaken(name: str, count: int, *, seed: int = 0, shake: float = 0.08) -> list[Atoms]:
    random = np.random.default_rng(seed)
    systems = [molecule(name) for _ in range(count)]
    for atoms in systems:
        atoms.positions += random.normal(0, shake, atoms.positions.shape)
    return systems


ethanols, waters = partial(shaken, "CH3CH2OH"), partial(shaken, "H2O")


def labelled(
    systems: list[Atoms],
    calculator: LieTransformerCalculator,
    *,
    seed: int,
    size: float,
    known: Callable[[int], list[Atoms]] = ethanols,
) -> list[Atoms]:
    """Reference values: what the model says, with errors as large as its last layer thinks, times ``size``."""
    random = np.random.default_rng(seed)
    features = features_of(calculator, systems)
    factor = posterior_factor(features_of(calculator, known(300)), 1e-6)
    sigma = energy_deviations(features, factor).numpy()
    for atoms, found, each in zip(systems, calculator.predict_many(systems), sigma, strict=True):
        atoms.info["REF_energy"] = found["energy"] + size * each * random.standard_t(4)
        atoms.arrays["REF_forces"] = found["forces"] + 0.05 * random.normal(size=(len(atoms), 3))
    return systems


@pytest.fixture
def known() -> list[Atoms]:
    return ethanols(300)


def test_features_give_the_energy_linearly(potential) -> None:
    head = potential.network.head
    f = torch.randn(2, 5, 16, dtype=torch.float64)
    weights = torch.cat([head.linear.weight[0], head.out.weight[0], head.linear.bias])
    assert last_features(head, f).shape == (2, 5, NUM_FEATURES)
    assert (last_features(head, f) @ weights - head(f)[..., 0]).abs().max() < SAME


@pytest.mark.parametrize("architecture", ["lie_transformer", "se3_transformer"])
def test_features_of_a_batch_are_those_of_each_and_sum_to_the_energy(calculator, architecture) -> None:
    if architecture == "se3_transformer":
        pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
        torch.manual_seed(0)
        network = {"width": 16, "kernel_hidden": 16}
        made = AtomicPotential.default(elements=(1, 6, 8), architecture=architecture, network=network)
        torch.nn.init.normal_(made.network.head.out.weight)
        calculator = LieTransformerCalculator(made.double())
    systems = [molecule(name) for name in ("CH3CH2OH", "H2O", "CH4", "C6H6")]
    together = features_of(calculator, systems)
    each = torch.cat([features_of(calculator, [atoms]) for atoms in systems])
    assert (together - each).abs().max() < 1e-11
    potential = calculator.potentials[0]
    head = potential.network.head
    weights = torch.cat([head.linear.weight[0], head.out.weight[0], head.linear.bias])
    energies = torch.tensor(
        [found["energy"] for found in calculator.predict_many(systems)], dtype=torch.float64
    )
    assert (together @ weights * potential.network.config.energy_scale - energies).abs().max() < 1e-11


def test_deviations_are_those_of_a_linear_regression() -> None:
    random = np.random.default_rng(0)
    Phi, phi, ridge = random.normal(size=(50, 7)) * 10.0 ** np.arange(-3, 4), random.normal(size=(4, 7)), 1e-3
    penalty = np.diag(ridge * len(Phi) * np.square(Phi).mean(0))
    exact = np.sqrt(np.einsum("bd,de,be->b", phi, np.linalg.inv(Phi.T @ Phi + penalty), phi))
    found = energy_deviations(torch.from_numpy(phi), posterior_factor(torch.from_numpy(Phi), ridge))
    assert np.abs(found.numpy() / exact - 1).max() < 1e-9


def test_force_deviations_are_the_slopes_of_the_features(calculator, known) -> None:
    fitted = Calibration.fit(
        calculator, labelled(ethanols(40, seed=3), calculator, seed=4, size=1.0), known=known
    )
    unscaled = fitted.forces_scale
    calibrated = LieTransformerCalculator(calculator.models[0], calibration=fitted, on_uncertain="ignore")
    atoms, step = ethanols(1, seed=9)[0], 1e-4
    found = calibrated.evaluate(atoms, ["forces_std"])["forces_std"] / unscaled
    for atom, axis in [(0, 0), (2, 1), (5, 2)]:
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[atom, axis] += step
        moved[1].positions[atom, axis] -= step
        difference = torch.subtract(*features_of(calculator, moved)) / (2 * step)
        exact = float((difference @ fitted.factor).norm())
        assert found[atom, axis] == pytest.approx(exact, rel=SLOPE_ERROR)


@pytest.mark.parametrize("source", ["last_layer", "ensemble"])
def test_intervals_and_bounds_cover_new_structures(source: str, calculator, random_potential) -> None:
    others = [random_potential(seed) for seed in (1, 2)] if source == "ensemble" else []
    model = LieTransformerCalculator(calculator.models[0], ensemble=others)
    held_out = labelled(waters(400, seed=1), calculator, seed=2, size=0.5, known=waters)
    fitted = Calibration.fit(model, held_out, coverage=0.9, known=None if others else waters(300))
    assert fitted.source == source
    new = labelled(waters(800, seed=5), calculator, seed=6, size=0.5, known=waters)
    trusted = LieTransformerCalculator(
        model.models[0], ensemble=others, calibration=fitted, on_uncertain="ignore"
    )
    found = trusted.predict_many(new, properties=["energy_interval", "forces", "forces_bound"])
    inside, errors = [], []
    for atoms, each in zip(new, found, strict=True):
        low, high = each["energy_interval"]
        inside.append(low <= atoms.info["REF_energy"] <= high)
        errors.append(np.linalg.norm(atoms.arrays["REF_forces"] - each["forces"], axis=1))
    within = [np.mean(e <= each["forces_bound"]) for e, each in zip(errors, found, strict=True)]
    assert 0.87 < np.mean(inside) < 0.93, np.mean(inside)
    assert 0.87 < np.mean(within) < 0.93, np.mean(within)


def test_deviations_have_the_size_of_the_errors(calculator, known) -> None:
    fitted = Calibration.fit(
        calculator, labelled(ethanols(300, seed=1), calculator, seed=2, size=0.5), known=known, forces=False
    )
    assert fitted.energy_scale == pytest.approx(0.5 * np.sqrt(2), rel=0.15)  # Student's t of 4: variance 2


def test_forces_can_be_calibrated_with_fewer_structures_than_energies(calculator, known) -> None:
    held_out = labelled(ethanols(40, seed=1), calculator, seed=2, size=0.5)
    every = Calibration.fit(calculator, held_out, known=known)
    some = Calibration.fit(calculator, held_out, known=known, most_with_forces=12)
    again = Calibration.fit(calculator, held_out, known=known, most_with_forces=12)
    assert (some.energy_scale, some.energy_quantile, some.num_structures) == (
        every.energy_scale,
        every.energy_quantile,
        40,
    )
    assert some.forces_scale != every.forces_scale
    assert some.forces_scale == again.forces_scale
    assert 0.5 < some.forces_scale / every.forces_scale < 2


def test_the_last_layer_is_unsure_of_what_it_has_not_seen(calculator, known) -> None:
    fitted = Calibration.fit(
        calculator, labelled(ethanols(100, seed=1), calculator, seed=2, size=1.0), known=known, forces=False
    )
    trusted = LieTransformerCalculator(calculator.models[0], calibration=fitted, on_uncertain="ignore")
    usual, far = (
        np.mean([each["energy_std"] for each in trusted.predict_many(systems, properties=["energy_std"])])
        for systems in (ethanols(50, seed=7), ethanols(50, seed=7, shake=0.2))
    )
    assert far > 2 * usual, (far, usual)


def test_a_strange_structure_warns_once_or_raises_and_usual_ones_do_not(calculator, known) -> None:
    fitted = Calibration.fit(
        calculator, labelled(ethanols(60, seed=1), calculator, seed=2, size=1.0), known=known
    )
    strange, usual = molecule("C6H6"), ethanols(1, seed=11, shake=0.05)[0]
    trusted = LieTransformerCalculator(calculator.models[0], calibration=fitted)
    with pytest.warns(
        UncertaintyWarning, match=r"C6H6 is uncertain: .* times the limit, .* meV an atom, which 99 %"
    ):
        trusted.evaluate(strange, ["energy"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trusted.evaluate(usual, ["energy", "forces_std"])
    strict = LieTransformerCalculator(calculator.models[0], calibration=fitted, on_uncertain="raise")
    strange.calc = strict
    with pytest.raises(UncertaintyError, match="C6H6 is uncertain"):
        strange.get_potential_energy()
    strict.set(on_uncertain="ignore")
    assert np.isfinite(strange.get_potential_energy())
    narrow = Calibration(**{**vars(fitted), "forces_limit": fitted.forces_limit / 10})
    careful = LieTransformerCalculator(calculator.models[0], calibration=narrow)
    with pytest.warns(UncertaintyWarning, match=r"the force on atom \d \([CHO]\) of C2H6O is uncertain"):
        careful.evaluate(usual, ["forces_std"])


def test_results_have_names_and_shapes_and_cost_nothing_unless_asked(calculator, known, monkeypatch) -> None:
    fitted = Calibration.fit(
        calculator, labelled(ethanols(100, seed=1), calculator, seed=2, size=1.0), known=known
    )
    atoms = ethanols(1, seed=8)[0]
    atoms.calc = LieTransformerCalculator(calculator.models[0], calibration=fitted, on_uncertain="ignore")
    plain = calculator.evaluate(atoms, ["energy", "forces"])
    assert abs(atoms.get_potential_energy() - plain["energy"]) < SAME
    assert np.abs(atoms.get_forces() - plain["forces"]).max() < SAME
    low, high = atoms.calc.results["energy_interval"]
    assert (low + high) / 2 == pytest.approx(plain["energy"], abs=1e-10)
    assert "forces_std" not in atoms.calc.results
    assert atoms.calc.evaluations == 1
    assert atoms.calc.get_property("forces_bound", atoms).shape == (9,)
    assert atoms.calc.results["forces_std"].shape == (9, 3)
    for other in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        assert other.evaluate(atoms, ["energy_std"])["energy_std"] == atoms.calc.results["energy_std"]


def test_a_calibration_is_stored_beside_its_model(calculator, random_potential, known, tmp_path) -> None:
    save_model(calculator.models[0], tmp_path / "model")
    fitted = Calibration.fit(
        calculator, labelled(ethanols(60, seed=1), calculator, seed=2, size=1.0), known=known, forces=False
    )
    file = fitted.save(tmp_path / "model")
    assert file == tmp_path / "model" / "calibration.safetensors"
    found = LieTransformerCalculator(tmp_path / "model")
    atoms = ethanols(1, seed=8)[0]
    exact = LieTransformerCalculator(calculator.models[0], calibration=fitted).evaluate(
        atoms, ["energy_interval"]
    )
    difference = found.evaluate(atoms, ["energy_interval"])["energy_interval"] - exact["energy_interval"]
    assert np.abs(difference).max() < SAME
    assert found.parameters["on_uncertain"] == "warn"
    with pytest.raises(ValueError, match="this calibration is for 1 model"):
        LieTransformerCalculator(random_potential(1), calibration=file)
    save_model(random_potential(1), tmp_path / "model")  # another model in its place
    assert LieTransformerCalculator(tmp_path / "model").calibration is None
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError):
        Calibration.load(file)
    with pytest.raises(DataError, match="no calibration file at"):
        Calibration.load(tmp_path / "nothing")


def test_energies_of_another_level_of_theory_are_said(calculator, known) -> None:
    systems = labelled(ethanols(60, seed=1), calculator, seed=2, size=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Calibration.fit(calculator, systems, known=known, forces=False)
    for atoms in systems:
        atoms.info["REF_energy"] -= 3.0 * len(atoms)
    with pytest.warns(
        UserWarning,
        match=r"a number for every element \(.*\), with .* eV/atom left: .* another level of theory",
    ):
        Calibration.fit(calculator, systems, known=known, forces=False)


def test_another_level_of_theory_is_said_of_molecules_of_several_compositions() -> None:
    organic = LieTransformerCalculator("organic-gfn2", on_uncertain="ignore")
    systems = [molecule(name) for name in ("H2O", "CH4", "CO2", "CH3OH", "HCN", "C2H6") for _ in range(8)]
    for seed, atoms in enumerate(systems):
        atoms.rattle(0.05, seed=seed)
        atoms.info["REF_energy"] = organic.evaluate(atoms)["energy"] - 400.0 * np.sqrt(atoms.numbers).sum()
    with pytest.warns(UserWarning, match="another level of theory"):
        Calibration.fit(organic, systems, known=systems, forces=False)


def test_what_cannot_be_calibrated_is_said(calculator, random_potential, known) -> None:
    with pytest.raises(ValueError, match="every held-out structure needs a reference energy"):
        Calibration.fit(calculator, ethanols(40))
    few = labelled(ethanols(16), calculator, seed=0, size=1.0)
    with pytest.raises(ValueError, match="needs at least 9 held-out structures, got 8"):
        Calibration.fit(calculator, few)
    twins = LieTransformerCalculator(calculator.models[0], ensemble=[calculator.models[0]])
    with pytest.raises(ValueError, match="are the models of the ensemble the same"):
        Calibration.fit(twins, few)
    with pytest.raises(ValueError, match="an ensemble does not need them"):
        Calibration.fit(twins, few, known=known)
    mean = LieTransformerCalculator(random_potential(network={"readout": "mean"}))
    with pytest.raises(ValueError, match=r"readout 'sum' without weights or pool, not .*'mean'"):
        Calibration.fit(mean, few)
    with pytest.raises(ValueError, match="on_uncertain='raise' needs a calibration"):
        LieTransformerCalculator(calculator.models[0], on_uncertain="raise")
    with pytest.raises(ValueError, match="on_uncertain must be one of ignore, warn, raise"):
        LieTransformerCalculator(calculator.models[0], on_uncertain="shout")
