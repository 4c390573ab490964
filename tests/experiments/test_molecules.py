"""The molecules experiment from a file to results, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from lie_sim import load_model
from lie_sim.calculators import LieTransformerCalculator
from lie_sim.data.molecules import Molecules
from lie_sim.data.structure_files import from_atoms, write_structures
from lie_sim.errors import CheckpointError, ConfigError
from lie_sim.experiments import MoleculesConfig, MoleculesExperiment, open_run, read_results
from lie_sim.experiments.dynamics_options import DynamicsOptions
from lie_sim.experiments.molecules import (
    errors,
    molecules_model,
    molecules_se3_model,
    molecules_training,
    summary,
)
from lie_sim.experiments.molecules_facts import labels
from lie_sim.experiments.molecules_split import Split
from lie_sim.models import AtomicPotential, evaluate, heads
from lie_sim.state import Particles
from lie_sim.training import fine_tuned, fine_tuning


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    random, systems = np.random.default_rng(0), []
    for k in range(40):
        atoms = molecule(("H2O", "CH3OH")[k % 2])
        atoms.positions += 0.08 * random.standard_normal(atoms.positions.shape)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.info["REF_dipole"] = (atoms.numbers - 3.0) @ (atoms.positions - atoms.positions.mean(0)) / 10
        systems.append(atoms)
    path = tmp_path_factory.mktemp("data") / "small.extxyz"
    write_structures(path, systems)
    return path


def config(file, **changes) -> MoleculesConfig:
    model = replace(molecules_model(), width=16, num_heads=8, num_moments=4, kernel_hidden=16)
    training = replace(
        molecules_training(),
        max_steps=40,
        max_cpu_seconds=0.0,
        warmup_steps=5,
        validate_every=20,
        log_every=10,
    )
    short = DynamicsOptions(picoseconds=0.01)
    return MoleculesConfig(data=str(file), dynamics=short, model=model, training=training, **changes)


def test_from_a_file_to_a_calculator(file, tmp_path) -> None:
    experiment = MoleculesExperiment(config(file))
    untrained = experiment.build()
    test = experiment.splits["test"]
    off = errors(untrained, test, cutoff=untrained.cutoff, inputs=())
    before = summary(off, test)
    alone = errors(untrained, test[:1], cutoff=untrained.cutoff, inputs=())["energy"]
    assert alone == pytest.approx(off["energy"][:1])
    experiment.run(tmp_path / "run", progress=False)
    found = open_run(tmp_path / "run").evaluate_run(tmp_path / "run", progress=False)
    assert found.results["force_mae"] < before["force_mae"]
    assert [row[0] for row in found.report.breakdown[0].rows] == ["all", "H", "C", "O"]
    assert [each.label for each in found.report.parity] == ["energy", "force component"]
    assert len(found.report.molecules) == 4, "all four test structures"
    assert {"nve_drift", "nve_fluctuation"} < set(found.results)
    assert [row["force_mae"] for row in found.report.learning_curve if "force_mae" in row]
    calculator = LieTransformerCalculator(tmp_path / "run" / "model")
    forces = [calculator.evaluate(one)["forces"] for one in atoms_of(test)]
    mae = np.abs(np.concatenate(forces) - test.values["forces"]).mean()
    assert mae == pytest.approx(found.results["force_mae"], rel=1e-4)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_a_dipole_is_learned_beside_energy_and_forces(file, tmp_path) -> None:
    experiment = MoleculesExperiment(config(file, properties=("dipole",)))
    before = experiment.task().validate(experiment.build().double())
    result = experiment.run(tmp_path / "run", progress=False)
    for name, ratio in (("dipole_mae", 0.8), ("force_mae", 0.95)):
        assert result.validation[name] < ratio * before[name], name
    found = open_run(tmp_path / "run").evaluate_run(tmp_path / "run", progress=False)
    model, test = load_model(tmp_path / "run" / "model").double(), experiment.splits["test"]
    told = []
    for atoms in atoms_of(test):
        q = torch.from_numpy(atoms.positions)[None]
        species = torch.from_numpy(atoms.numbers)[None]
        told.append(
            evaluate(model, q, Particles(torch.ones(q.shape[:2]).double(), species)).properties["dipole"]
        )
    mae = np.abs(torch.cat(told).numpy() - test.values["dipole"]).mean()
    assert found.results["dipole_mae"] == pytest.approx(mae, rel=1e-3)
    shown = found.report.parity[-1]
    assert (shown.label, shown.unit, shown.figures["count"]) == ("dipole", "e Å", 3 * len(test))
    assert shown.figures["mae"] == pytest.approx(found.results["dipole_mae"])
    assert (experiment.unit_of("dipole_mae"), experiment.unit_of("force_mae")) == ("e Å", "eV/Å")
    assert found.report.summary["dipole MAE"].endswith(" e Å")
    with pytest.raises(ValueError, match="the data have no 'gap'"):
        MoleculesExperiment(config(file, properties=("gap:intensive",))).build()


def atoms_of(molecules):
    from ase import Atoms

    for k in range(len(molecules)):
        one = molecules[[k]]
        yield Atoms(one.numbers, one.positions)


def test_a_run_says_what_it_reads(file, tmp_path) -> None:
    facts = MoleculesExperiment(config(file, num_train=20)).data_facts()
    assert facts.pop("learned").startswith("energy (")
    dipoles = [atoms.info["REF_dipole"] for atoms in ase.io.read(file, index=":")]
    assert facts == {
        "structures": f"40 of {file}: train 20, validation 4, test 16",
        "elements": "H, C, O",
        "not learned": f"dipole (rms {np.sqrt(np.square(dipoles).mean()):.3g} e Å): --properties dipole",
    }
    ion, neutral = molecule("H2O"), molecule("H2O")
    ion.info |= {"charge": -1}
    for atoms in (ion, neutral):
        atoms.info["REF_energy"] = -13.0
    path = tmp_path / "ions.extxyz"
    write_structures(path, [ion, neutral] * 5)
    for inputs, use in (((), "charge (not used: --inputs charge)"), (("charge",), "charge")):
        told = MoleculesExperiment(MoleculesConfig(data=str(path), inputs=inputs)).data_facts()
        assert told["learned"] == "energy (-4.333 eV an atom); the file has no forces"
        assert told["inputs"] == use


def test_labels_without_a_weight_are_not_learned(file) -> None:
    facts = MoleculesExperiment(config(file, num_train=20, force_weight=0.0)).data_facts()
    assert "forces" not in facts["learned"]
    assert "their weight is 0" in facts["not learned"]


def test_labels_are_told_with_their_sizes() -> None:
    two = Molecules(
        np.array([1, 1, 8]),
        np.eye(3),
        np.array([0, 2, 3]),
        np.zeros((2, 3, 3)),
        np.zeros((2, 3), bool),
        {
            "gap": np.array([3.0, np.nan]),
            "forces": 2 * np.ones((3, 3)),
            "energy": np.array([-30.0, -75.0]),
            "charges": np.array([0.3, -0.3, 0.3]),
            "other": np.ones(2),
        },
    )
    assert labels(two, learned=["energy", "forces", "gap"], inputs=[]) == {
        "learned": "energy (-45 eV an atom), forces (rms 2 eV/Å), gap (rms 3)",
        "not learned": "charges (rms 0.3 e): --properties charges, "
        "other: --properties NAME:intensive or NAME:extensive",
    }


def test_evaluation_tests_what_the_run_kept_for_it(file, tmp_path) -> None:
    experiment = MoleculesExperiment(config(file, num_train=10, num_validation=4, num_test=6))
    experiment.run(tmp_path, progress=False)
    first = read_results(tmp_path)
    known = Split.load(tmp_path)
    assert known is not None
    assert known.places()["train"].tolist() == experiment.split.train
    again = MoleculesExperiment(config(file, num_train=10, num_validation=4, num_test=20))
    again.reuse(tmp_path)
    assert not set(again.split.test) & {*known.train, *known.validation}
    assert len(again.splits["test"]) == 20
    # The split of the file is used, not one drawn by the seed: exchange two parts and the figures change.
    replace(known, test=known.train[:6], train=[*known.train[6:], *known.test]).save(tmp_path)
    exchanged = open_run(tmp_path).evaluate_run(tmp_path, progress=False)
    assert exchanged.results["force_mae"] != first["force_mae"]


def test_what_is_impossible_is_said(file) -> None:
    with pytest.raises(ConfigError, match="give a file of structures"):
        MoleculesExperiment(MoleculesConfig()).build()
    blind = config(file, num_train=20)
    with pytest.raises(
        ConfigError, match=r"nearer than 0\..* with a cutoff of 0\.3 Å none would have a neighbour"
    ):
        MoleculesExperiment(replace(blind, model=replace(blind.model, cutoff=0.3))).build()
    everyone = MoleculesExperiment(
        replace(blind, model=replace(blind.model, lifting="frame", radial="coulomb", cutoff=0.0))
    )
    assert everyone.build().cutoff == 0.0
    with pytest.raises(ConfigError, match="num_train must not be negative"):
        MoleculesConfig(num_train=-1)
    with pytest.raises(ConfigError, match="force_weight must be finite"):
        MoleculesConfig(force_weight=float("nan"))


def test_a_run_goes_on_from_the_network_of_another_with_energies_of_its_own_zero(file, tmp_path) -> None:
    first = MoleculesExperiment(config(file))
    first.run(tmp_path / "first", progress=False)
    elsewhere = tmp_path / "elsewhere.extxyz"
    systems = ase.io.read(file, ":")
    for atoms in systems:
        atoms.info["REF_energy"] += 7.0 * len(atoms) + 100.0 * (atoms.numbers == 8).sum()
    write_structures(elsewhere, systems)
    options = config(elsewhere, start_from=str(tmp_path / "first"))
    second = MoleculesExperiment(options)
    begun, test = second.build(), second.splits["test"]
    old = load_model(tmp_path / "first" / "model")
    same = errors(old, first.splits["test"], cutoff=old.cutoff, inputs=())
    now = errors(begun, test, cutoff=begun.cutoff, inputs=())
    np.testing.assert_allclose(now["forces"], same["forces"], atol=1e-6)
    assert np.abs(now["energy"]).mean() < 1.5 * np.abs(same["energy"]).mean() < 3.0
    second.run(tmp_path / "second", progress=False)
    figures = read_results(tmp_path / "second")
    assert figures["force_mae"] < np.abs(same["forces"]).mean()

    assert open_run(tmp_path / "second").config.start_from == str(tmp_path / "first")
    shutil.rmtree(tmp_path / "first")  # the run keeps what it began with
    again = open_run(tmp_path / "second")
    again.reuse(tmp_path / "second")
    assert again.build().config == begun.config
    again.run(tmp_path / "second", progress=False)
    assert read_results(tmp_path / "second")["force_mae"] == figures["force_mae"]


def test_what_lies_in_a_directory_without_a_run_is_neither_used_nor_lost(file, tmp_path) -> None:
    folder = tmp_path / "run"
    (folder / "start").mkdir(parents=True)
    (folder / "start" / "mine.txt").write_text("mine")
    MoleculesExperiment(config(file)).keep(folder)
    other = MoleculesExperiment(config(file, data_seed=1))
    assert not other.goes_on(folder)
    assert other.split.seed == 1, "not the split that was left there"
    other.keep(folder)
    assert (folder / "start" / "mine.txt").read_text() == "mine"


def test_predictions_stand_in_the_order_of_the_structures(file) -> None:
    experiment = MoleculesExperiment(config(file, properties=("dipole",)))
    told = experiment.property_predictions(experiment.build())
    np.testing.assert_allclose(
        told["dipole"][1], experiment.splits["test"].values["dipole"].ravel(), atol=1e-6
    )


def test_heads_of_the_model_to_start_from_can_be_dropped_and_kept(file) -> None:
    experiment = MoleculesExperiment(config(file, properties=("dipole", "charges")))
    train = experiment.splits["train"]
    options = AtomicPotential.default(
        elements=(1, 6, 8), network={"width": 16, "num_heads": 8}, heads=heads("dipole", "charges")
    ).double()
    without = fine_tuned(options, train, heads={})
    assert not without.properties
    assert next(without.parameters()).dtype == torch.float64
    test = experiment.splits["test"]
    before, after = (errors(each, test, cutoff=options.cutoff, inputs=()) for each in (options, without))
    np.testing.assert_allclose(before["forces"], after["forces"], atol=1e-12)
    same = fine_tuned(options, train).heads.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in options.heads.state_dict().items())


def test_a_rare_element_gets_its_reference_energy_too(monkeypatch) -> None:
    monkeypatch.setattr(fine_tuning, "MOST_STRUCTURES", 20)
    common = [molecule("CH4", info={"REF_energy": -1000.0}) for _ in range(50)]
    rare = [molecule("CH3OH", info={"REF_energy": -3000.0}) for _ in range(3)]
    data = from_atoms([*common, *rare])
    tuned = fine_tuned(load_model("organic-gfn2"), data)
    off = errors(tuned, data, cutoff=tuned.cutoff, inputs=())["energy"]
    assert np.abs(off).max() < 1e-3


def test_an_element_that_no_training_structure_has_is_refused_before_training(tmp_path) -> None:
    systems = [molecule("H2O", info={"REF_energy": -1.0}) for _ in range(19)]
    path = tmp_path / "mixed.extxyz"
    for place in range(20):  # wherever the one is drawn to, but to train
        write_structures(
            path, [*systems[:place], molecule("NH3", info={"REF_energy": -1.0}), *systems[place:]]
        )
        experiment = MoleculesExperiment(MoleculesConfig(data=str(path)))
        if 7 not in experiment.splits["train"].elements:
            break
    with pytest.raises(ConfigError, match=r"structures have N, of which no training structure"):
        experiment.build()


def test_a_model_to_start_from_that_does_not_fit_is_refused(file, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a shipped model"):
        MoleculesExperiment(config(file, start_from=str(tmp_path / "nothing"))).build()
    plain = MoleculesConfig(data=str(file))
    for options, message in (
        (config(file, start_from="organic-gfn2"), "leave the options of the model away"),
        (replace(plain, start_from="qm9-properties"), "has no energy"),
        (replace(plain, start_from="organic-gfn2", inputs=("charge",)), "leave --inputs away"),
        (
            replace(plain, start_from="organic-gfn2", model=molecules_se3_model()),
            "add --model lie_transformer",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            MoleculesExperiment(options).build()
    silicon = tmp_path / "silicon.extxyz"
    write_structures(silicon, [Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]], info={"REF_energy": -1.0})] * 20)
    with pytest.raises(ConfigError, match=r"does not know Si, only H, C, N, O, F"):
        MoleculesExperiment(replace(plain, data=str(silicon), start_from="organic-gfn2")).build()


def test_a_shipped_model_is_fine_tuned_with_a_new_dipole(file) -> None:
    options = replace(MoleculesConfig(data=str(file)), start_from="organic-gfn2", properties=("dipole",))
    experiment = MoleculesExperiment(options)
    built, shipped = experiment.build(), load_model("organic-gfn2")
    assert built.properties == ("dipole",)
    assert experiment.task().cutoff == shipped.cutoff
    test = experiment.splits["test"]
    now, before = (
        errors(model.double(), test, cutoff=shipped.cutoff, inputs=())["forces"] for model in (built, shipped)
    )
    np.testing.assert_allclose(now, before, atol=1e-9)
