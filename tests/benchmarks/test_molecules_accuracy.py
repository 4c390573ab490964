"""The accuracy benchmark of molecules trains, remembers, chooses rates by validation, and shows what is missing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from torch import nn

Script = Callable[[str], ModuleType]
MADE_UP = {"command": "x", "versions": {}, "threads": 1, "date": "", "machine": ""}


@pytest.fixture(scope="module")
def frames_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames of water by EMT, in a folder of their own."""
    path = tmp_path_factory.mktemp("frames") / "ethanol.npz"
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    try:
        import molecules_frames
    finally:
        sys.path.pop(0)
    atoms = Atoms("OH2", [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]], calculator=EMT())
    np.savez(path, **molecules_frames.trajectory(atoms, frames=40, seed=0))
    return path


def test_frames_are_those_of_the_calculator(frames_file: Path, script: Script) -> None:
    frames = script("molecules_frames").read(frames_file)
    atoms = Atoms(frames.numbers, frames.positions[7], calculator=EMT())
    assert frames.energies[7] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    assert np.abs(frames.forces[7] - atoms.get_forces()).max() < 1e-12
    assert np.abs(np.diff(frames.positions, axis=0)).max(axis=(1, 2)).min() > 1e-3, "a frame came twice"


def test_geometries_have_their_bonds(script: Script) -> None:
    frames = script("molecules_frames")
    for name, formula in (("malonaldehyde", "C3H4O2"), ("aspirin", "C9H8O4"), ("ethanol", "C2H6O")):
        atoms = frames.geometry(name)
        assert atoms.get_chemical_formula() == formula
        nearest = np.sort(atoms.get_all_distances(), axis=1)[:, 1]
        assert 0.9 < nearest.min() <= nearest.max() < 1.6, f"{name}: {nearest}"


def test_parts_of_a_split_are_disjoint(script: Script) -> None:
    split = script("molecules_frames").split
    parts = split(3200, 0)
    assert [len(part) for part in parts.values()] == [1000, 200, 2000]
    assert len(np.unique(np.concatenate(list(parts.values())))) == 3200
    assert (split(3200, 1)["test"] != parts["test"]).any()
    with pytest.raises(ValueError, match="1200 frames are too few for 1000 to train and 200 to validate"):
        split(1200, 0)


def test_learning_rate_warms_up_and_ends_at_nothing(script: Script) -> None:
    rate = script("molecules_training").learning_rate
    assert rate(2.0, 0, 0.0) == pytest.approx(2.0 / 150)
    assert rate(2.0, 149, 0.0) == 2.0
    assert rate(2.0, 10_000, 0.5) == pytest.approx(1.0)
    assert rate(2.0, 10_000, 1.2) == 0


def springs(module: ModuleType) -> Any:
    """A peer whose network is one spring constant between all pairs."""

    class Springs(module.Peer):  # type: ignore[name-defined, misc]
        batch = 4

        def build(self) -> None:
            self.module = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.module.weight)

        def graph(self, atoms: Atoms) -> Any:
            return torch.from_numpy(atoms.positions).float()

        def evaluate(self, graphs: Sequence[Any], *, training: bool) -> Any:
            x = torch.stack(list(graphs)).requires_grad_(True)
            squares = (x[:, :, None] - x[:, None]).square().sum((1, 2, 3))
            energies = self.module(squares[:, None]).squeeze(-1)
            (slope,) = torch.autograd.grad(energies.sum(), x, create_graph=training)
            return energies.double(), -slope.flatten(0, 1)

    return Springs([1], scale=1.0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_trainer_finds_the_constant_of_its_data(script: Script, optimizer: str) -> None:
    training, peers = script("molecules_training"), script("molecule_peers")
    x = np.random.default_rng(0).normal(size=(20, 3, 3))
    between = x[:, :, None] - x[:, None]
    constant = 0.25
    truth = training.Frames(
        np.ones(3, int), x, constant * np.square(between).sum((1, 2, 3)), -4 * constant * between.sum(2)
    )
    trainer = training.Trainer(springs(peers), truth, rate=0.05, optimizer=optimizer)
    for _ in range(300):
        trainer.step(0.0)
    found = trainer.peer.module.weight.item()
    assert found == pytest.approx(constant, abs=0.01)
    trainer.swap()
    assert trainer.peer.module.weight.item() != found, "the average is not the last weight"
    trainer.swap()
    assert trainer.peer.module.weight.item() == found


def test_muon_of_parts_is_muon_of_matrices(script: Script) -> None:
    optimizers = script("molecule_peers.optimizers")
    torch.manual_seed(0)
    row, gradient = torch.randn(20 + 24), torch.randn(44)
    whole = nn.Parameter(row.clone())
    parts = [nn.Parameter(part.clone()) for part in (row[:20].reshape(4, 5), row[20:].reshape(6, 4))]
    first = optimizers.Muon([whole], [(whole, [(slice(0, 20), (4, 5)), (slice(20, 44), (6, 4))])])
    second = optimizers.Muon(parts, [(p, [(slice(0, p.numel()), tuple(p.shape))]) for p in parts])
    for _ in range(3):
        whole.grad = gradient.clone()
        parts[0].grad, parts[1].grad = gradient[:20].reshape(4, 5), gradient[20:].reshape(6, 4)
        first.step(learning_rate=0.1)
        second.step(learning_rate=0.1)
    assert torch.equal(whole, torch.cat([p.flatten() for p in parts]))
    assert (whole - row).abs().max() > 0.01


def test_quick_run_trains_ours_and_remembers(
    script: Script, frames_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    accuracy = script("molecules_accuracy")
    arguments = ["--quick", "--keep", str(frames_file.parent)]
    accuracy.main(arguments)
    assert "force_mae_ethanol" in capsys.readouterr().out
    row = json.loads((frames_file.parent / "2s-ethanol-ours-0-0.json").read_text())
    assert row["contestant"] == "ours"
    assert row["test_frames"] == 10
    assert math.isfinite(row["force_mae_mev"])
    assert row["validation"] * 1e3 == pytest.approx(row["force_mae_mev"], rel=2), "units differ"
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.run", lambda *_, **__: pytest.fail("what was done is done again"))
        accuracy.main(arguments)
    with pytest.raises(SystemExit):
        accuracy.main([*arguments, "--record"])


def test_parts_have_names_and_the_shorter_budget_comes_first(script: Script) -> None:
    accuracy = script("molecules_accuracy")
    parts = list(accuracy.parts())
    names = [part.name for part in parts]
    assert [accuracy.Part.of(name) for name in names] == parts
    assert len(set(names)) == len(names) == 2 * (3 * 5 + 2 * 3 * 3) + 8
    assert names[0] == "300s-ethanol-ours-0-0"
    assert "1800s-aspirin-mace-best-2" in names
    assert "1800s-ethanol-mace_muon-0.01-0" not in names
    budgets = [part.budget for part in parts]
    assert budgets == sorted(budgets)


def test_other_seeds_take_the_rate_that_validation_chose(script: Script, tmp_path: Path) -> None:
    accuracy = script("molecules_accuracy")
    part = accuracy.Part.of("300s-ethanol-painn64-best-1")
    for rate, validation in ((1e-3, 2.0), (2e-3, 1.0)):
        with pytest.raises(SystemExit, match=r"300s-ethanol-painn64-0\.002-0: do these first"):
            accuracy.best_rate(part, tmp_path)
        row = {"rate": rate, "validation": validation}
        (tmp_path / f"300s-ethanol-painn64-{rate:g}-0.json").write_text(json.dumps(row))
    assert accuracy.best_rate(part, tmp_path) == 2e-3


@pytest.mark.parametrize("name", ["300s-aspirin-mace-0.01-0", "300s-aspirin-ours-0-0"])
def test_peers_and_frames_need_their_environment(script: Script, tmp_path: Path, name: str) -> None:
    accuracy = script("molecules_accuracy")
    with pytest.raises(SystemExit, match=f"{name} needs --peers PYTHON"):
        accuracy.main(["--keep", str(tmp_path), "--part", name])


def made_up_rows() -> list[dict[str, Any]]:
    """Two rates of a peer on seed 0, of which the second has the better validation, and ours."""
    same = {"molecule": "ethanol", "budget": 300.0, "energy_mae_mev": 1.0, "steps": 9, "test_frames": 2000}
    return [
        same | {"contestant": "painn64", "seed": 0, "rate": 1e-3, "validation": 2.0, "force_mae_mev": 8.0},
        same | {"contestant": "painn64", "seed": 0, "rate": 2e-3, "validation": 1.0, "force_mae_mev": 10.0},
        same | {"contestant": "painn64", "seed": 1, "rate": 2e-3, "validation": 1.0, "force_mae_mev": 12.0},
        same | {"contestant": "ours", "seed": 0, "rate": 0.0, "validation": 1.0, "force_mae_mev": 4.4},
    ]


def test_rates_are_chosen_by_validation_not_by_the_test(script: Script) -> None:
    accuracy = script("molecules_accuracy")
    found = accuracy.figures(made_up_rows())
    assert found["painn64_force_mae_ethanol_5min"] == 11.0
    assert found["force_over_painn_ethanol_5min"] == pytest.approx(0.4)
    assert "force_mae_ethanol" not in found, "the longer budget was not measured"


def test_a_part_beside_other_work_shows_in_its_pace(script: Script) -> None:
    def row(contestant: str, steps: int, cpu_s: float, molecule: str = "ethanol") -> dict[str, object]:
        return {"contestant": contestant, "molecule": molecule, "steps": steps, "cpu_s": cpu_s}

    rows = {
        "idle": row("painn64", 12_000, 300.0),
        "longer": row("painn64", 60_000, 2000.0),
        "same network": row("painn64_muon", 6000, 300.0),
        "other": row("ours", 10, 1.0),
        "heavier": row("painn64", 300, 300.0, "aspirin"),
    }
    expected = {"idle": 1.0, "longer": 0.75, "same network": 0.5, "other": 1.0, "heavier": 1.0}
    assert script("molecules_accuracy").pace(rows) == pytest.approx(expected)


def test_what_is_missing_is_shown_as_missing(script: Script) -> None:
    rows = made_up_rows()
    chosen = script("molecules_accuracy").chosen_rows(rows)
    details = {"parts": {str(k): row | {"chosen": row in chosen} for k, row in enumerate(rows)}}
    shown = script("result_tables.molecules").molecules_accuracy(MADE_UP | {"details": details})
    assert "| PaiNN, 64 features (SchNetPack) | 11 (2 of 3 seeds) | – | – | 1 (2 of 3 seeds) |" in shown
    assert "MACE" not in shown, "no row of what did not run"
    assert "1,800 CPU seconds" not in shown, "nor a table"
    assert "PaiNN, 64 features (SchNetPack) 0.002" in shown


def test_errors_are_means_over_components(script: Script, tmp_path: Path) -> None:
    np.savez(tmp_path / "true.npz", E=np.array([1.0, 2.0, 3.0]), F=np.zeros((3, 2, 3)))
    off = np.zeros((2, 2, 3))
    off[0, 0, 0] = 0.012
    np.savez(tmp_path / "made.npz", energies=np.array([3.5, 1.0]), forces=off, test=np.array([2, 0]))
    found = script("molecules_accuracy").errors(tmp_path / "true.npz", tmp_path / "made.npz")
    assert found["force_mae_mev"] == pytest.approx(1.0)
    assert found["energy_mae_mev"] == pytest.approx(250.0)
