"""Training on molecules: batches against single structures, the loss against its formula, references, and a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.data.molecules import Molecules
from lie_sim.data.structure_files import from_atoms
from lie_sim.models import heads
from lie_sim.training import TrainingConfig, named_target, train
from lie_sim.training.molecules import MoleculesTask, predict
from lie_sim.training.padded import PaddedMolecules
from lie_sim.training.references import atomic_potential, interaction_energies, reference_energies

SAME = 1e-10
SMALL = {"width": 16, "num_heads": 8, "num_moments": 4, "kernel_hidden": 16, "cutoff": 4.0}


def labelled(count: int = 12, *, crystals: bool = False, seed: int = 0) -> Molecules:
    """Shaken structures with EMT's energies, forces and stresses."""
    random, systems = np.random.default_rng(seed), []
    for k in range(count):
        atoms = [molecule("H2O"), molecule("CH3OH"), molecule("C2H6")][k % 3]
        if crystals and k % 2:
            atoms = bulk("Al", cubic=True)
        atoms.positions += 0.08 * random.standard_normal(atoms.positions.shape)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        if atoms.pbc.any():
            atoms.info["REF_stress"] = atoms.get_stress()
        systems.append(atoms)
    return from_atoms(systems)


def voigt(matrix: np.ndarray) -> np.ndarray:
    return matrix[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


@pytest.mark.parametrize("crystals", [False, True])
def test_batches_give_what_the_calculator_gives(crystals: bool) -> None:
    data = labelled(crystals=crystals)
    torch.manual_seed(0)
    model = atomic_potential(data, network=SMALL).double()
    calculator = LieTransformerCalculator(model)
    padded = PaddedMolecules(data, cutoff=model.cutoff)
    order = torch.tensor([5, 0, 7, 2, 11])
    batch = padded.batch(order)
    found = predict(model, batch, cutoff=model.cutoff, forces=True)
    for row, k in enumerate(order.tolist()):
        one = data[[k]]
        atoms = Atoms(one.numbers, one.positions, cell=one.cells[0], pbc=one.pbc[0])
        exact = calculator.evaluate(atoms, ["energy", "forces"])
        assert abs(float(found["energy"][row]) - exact["energy"]) < SAME
        assert np.abs(found["forces"][row, : len(atoms)].numpy() - exact["forces"]).max() < SAME
        assert (found["forces"][row, len(atoms) :] == 0).all()
        if atoms.pbc.any():
            stress = voigt(found["virial"][row].numpy()) / atoms.get_volume()
            assert np.abs(stress - calculator.evaluate(atoms, ["stress"])["stress"]).max() < SAME


def test_loss_is_that_of_the_formula() -> None:
    data = labelled(crystals=True)
    torch.manual_seed(0)
    model = atomic_potential(data, network=SMALL).double()
    task = MoleculesTask(
        data, data, cutoff=model.cutoff, force_weight=3.0, energy_weight=2.0, stress_weight=5.0
    )
    batch = task.batch(torch.tensor([0, 1, 4, 3]), torch.Generator())
    loss = float(task.loss(model, batch))
    found = predict(model, batch, cutoff=model.cutoff, forces=True)
    sizes, force, energy, stress = batch["sizes"].numpy(), [], [], []
    for row, size in enumerate(sizes):
        force.append((found["forces"] - batch["forces"])[row, :size].numpy().ravel())
        energy.append(float(found["energy"][row] - batch["energy"][row]) / size)
        if batch["volume"][row] > 0:
            virial = voigt(found["virial"][row].numpy())
            stress.append((virial - float(batch["volume"][row]) * batch["stress"][row].numpy()) / size)
    expected = (
        3 * np.mean(np.concatenate(force) ** 2)
        + 2 * np.mean(np.square(energy))
        + 5 * np.mean(np.square(stress))
    )
    expected /= np.mean(np.square(data.values["forces"]))
    assert len(stress) == 2
    assert loss == pytest.approx(expected, rel=1e-9)


def test_weights_of_structures_multiply_all_their_terms() -> None:
    data = labelled(crystals=True)
    dipoles = np.random.default_rng(1).standard_normal((len(data), 3))
    data = replace(data, values={**data.values, "dipole": dipoles})
    weights = np.random.default_rng(2).uniform(0.1, 2.0, len(data))
    weights[4] = np.nan
    torch.manual_seed(0)
    model = atomic_potential(data, network=SMALL, heads=heads("dipole")).double()
    options = {"cutoff": model.cutoff, "stress_weight": 5.0, "huber_delta": 0.3}
    options["targets"] = [named_target("dipole")]

    def loss(weights: np.ndarray | None, property_weight: float) -> float:
        given = data if weights is None else replace(data, values={**data.values, "weight": weights})
        task = MoleculesTask(given, data, property_weight=property_weight, **options)
        batch = task.batch(torch.tensor([0, 1, 4, 3]), torch.Generator())
        whole = float(task.loss(model, batch).detach())
        return whole if property_weight else whole * task.scale  # energies, forces and stresses alone

    padded = PaddedMolecules(replace(data, values={**data.values, "weight": weights}), cutoff=model.cutoff)
    assert padded.batch(torch.tensor([4, 0]))["weight"].tolist() == [1.0, weights[0]], (
        "NaN is 1 in every task"
    )

    for property_weight in (0.0, 1e8):
        alone = [loss(np.eye(len(data))[k], property_weight) for k in (0, 1, 4, 3)]
        expected = np.nan_to_num(weights, nan=1.0)[[0, 1, 4, 3]] @ alone
        assert loss(weights, property_weight) == pytest.approx(expected, rel=1e-6), property_weight
        assert sum(alone) == pytest.approx(loss(None, property_weight), rel=1e-6)
    with pytest.raises(ValueError, match="not negative"):
        loss(np.where(np.arange(len(data)) == 3, -1.0, weights), 1.0)
    with pytest.raises(ValueError, match="not all 0"):
        loss(np.zeros(len(data)), 1.0)


def test_huber_loss_is_that_of_the_formula_and_squares_in_the_limit() -> None:
    data = labelled(crystals=True)
    torch.manual_seed(0)
    model = atomic_potential(data, network=SMALL).double()

    def task(delta: float) -> MoleculesTask:
        return MoleculesTask(
            data, data, cutoff=model.cutoff, force_weight=3.0, energy_weight=2.0, huber_delta=delta
        )

    batch = task(0.0).batch(torch.tensor([0, 1, 4, 3]), torch.Generator())
    found = predict(model, batch, cutoff=model.cutoff, forces=True)
    lengths = np.concatenate(
        [
            np.linalg.norm((found["forces"] - batch["forces"])[row, :size].numpy(), axis=1)
            for row, size in enumerate(batch["sizes"].tolist())
        ]
    )
    energies = ((found["energy"] - batch["energy"]) / batch["sizes"]).numpy()
    forces, energies = (2 * 0.3**2 * (np.sqrt(1 + x**2 / 0.3**2) - 1) for x in (lengths, energies))
    expected = (3 * forces.mean() / 3 + 2 * energies.mean()) / np.mean(np.square(data.values["forces"]))
    assert float(task(0.3).loss(model, batch)) == pytest.approx(expected, rel=1e-9)
    squares = float(task(0.0).loss(model, batch))
    assert float(task(1e6).loss(model, batch)) == pytest.approx(squares, rel=1e-9)
    assert float(task(0.3).loss(model, batch)) < 0.9 * squares
    assert task(0.3).options() == task(0.0).options() | {"huber_delta": 0.3}


def test_references_explain_compositions_and_survive_a_single_molecule() -> None:
    data = labelled()
    numbers = dict(zip((1, 6, 8), (-13.0, -1028.0, -2041.0), strict=True))
    exact = data.composition((1, 6, 8)) @ np.array(list(numbers.values()))
    made = Molecules(data.numbers, data.positions, data.offsets, data.cells, data.pbc, {"energy": exact})
    assert reference_energies(made) == pytest.approx(numbers, abs=1e-8)
    one = made[[0, 3, 6]]
    assert np.abs(interaction_energies(one, reference_energies(one))).max() < 1e-8
    with pytest.raises(ValueError, match="no structure has an energy"):
        reference_energies(Molecules(data.numbers, data.positions, data.offsets, data.cells, data.pbc))


def test_a_short_training_learns_forces_and_resumes_to_the_bit(tmp_path) -> None:
    data = labelled(30)
    config = TrainingConfig(
        max_steps=60, batch_size=5, optimizer="muon", learning_rate=0.01, weight_decay=0.0, ema_decay=0.9,
        warmup_steps=5, clip_norm=10.0, validate_every=20, checkpoint_every=20, log_every=10,
    )  # fmt: skip

    def run(folder, **changes):
        torch.manual_seed(0)
        model = atomic_potential(data[:24], network=SMALL)
        task = MoleculesTask(data[:24], data[24:], cutoff=model.cutoff)
        before = task.to(dtype=torch.float32, device=torch.device("cpu")).validate(model)
        result = train(model, task, config, folder, progress=False, **changes)
        return before, result

    before, whole = run(tmp_path / "whole")
    assert whole.validation["force_mae"] < 0.75 * before["force_mae"], (before, whole.validation)
    for path in (tmp_path / "whole" / "checkpoints").glob("*60*"):
        path.unlink()
    _, again = run(tmp_path / "whole")
    for a, b in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_groups_hold_every_structure_once() -> None:
    padded = PaddedMolecules(labelled(20), cutoff=4.0)
    groups = padded.groups(30)
    assert sorted(torch.cat(groups).tolist()) == list(range(20))
    assert all(len(group) * int(padded.sizes[group].max()) <= 30 for group in groups)


def test_energies_alone_are_enough() -> None:
    data = labelled()
    alone = Molecules(
        data.numbers, data.positions, data.offsets, data.cells, data.pbc, {"energy": data.values["energy"]}
    )
    torch.manual_seed(0)
    model = atomic_potential(alone, network=SMALL).double()
    task = MoleculesTask(alone, alone, cutoff=model.cutoff)
    assert task.metric == "energy_mae"
    assert set(task.validate(model)) == {"energy_mae", "energy_atom_mae", "validation_loss"}
    assert task.loss(model, task.batch(torch.arange(4), torch.Generator())).requires_grad


def test_what_is_missing_is_named() -> None:
    data = labelled()
    with pytest.raises(ValueError, match="validation data are empty"):
        MoleculesTask(data, data[:0], cutoff=4.0)
    with pytest.raises(ValueError, match=r"elements that the training data lack: C"):
        MoleculesTask(data[[0, 3]], data[[1]], cutoff=4.0)
    with pytest.raises(ValueError, match="no charge"):
        MoleculesTask(data, data, cutoff=4.0, inputs=("charge",))


def test_molecules_of_one_size_need_no_sorting() -> None:
    water = from_atoms([molecule("H2O")] * 2)
    both = from_atoms([molecule("H2O"), molecule("CH4")])
    for data, expected in ((water, None), (both, [3, 5])):
        labelled = replace(data, values={"energy": np.zeros(2)})
        sizes = MoleculesTask(labelled, labelled, cutoff=4.0).sizes
        assert (sizes if sizes is None else sizes.tolist()) == expected
