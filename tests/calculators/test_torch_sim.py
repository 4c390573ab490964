"""The model behind TorchSim's interface; skipped where torch-sim-atomistic is not installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.calculator import InputError
from ase.stress import voigt_6_to_full_3x3_stress

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.torch_sim import volumes

SAME = 1e-11
installed = pytest.mark.skipif(
    importlib.util.find_spec("torch_sim") is None,
    reason="torch-sim-atomistic is not installed (lie_sim[torchsim])",
)


def test_a_stress_without_a_volume_is_refused() -> None:
    cells = torch.stack([torch.eye(3), torch.zeros(3, 3), -2 * torch.eye(3)])
    assert volumes(cells[[0, 2]]).tolist() == [1, 8]
    with pytest.raises(InputError, match=r"systems \[1\] .* compute_stress=False"):
        volumes(cells)


@installed
class TestTorchSim:
    @pytest.fixture
    def model(self, random_potential):
        from lie_sim.calculators.torch_sim import TorchSimModel

        return TorchSimModel(random_potential(elements=(13, 14, 26)))

    def test_it_passes_the_checks_of_torch_sim(self, model) -> None:
        from torch_sim.models.interface import validate_model_outputs

        validate_model_outputs(model, torch.device("cpu"), torch.float64)

    def test_it_says_what_the_calculator_says(self, model) -> None:
        import torch_sim

        systems = [bulk("Al", cubic=True), bulk("Si"), bulk("Al") * (2, 1, 1)]
        for seed, atoms in enumerate(systems):
            atoms.rattle(0.1, seed=seed)
            atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * np.eye(3, k=1)), scale_atoms=True)
        found = model(torch_sim.io.atoms_to_state(systems, torch.device("cpu"), torch.float64))
        calculator, first = LieTransformerCalculator(model.potential), 0
        for place, atoms in enumerate(systems):
            exact = calculator.evaluate(atoms, ["energy", "forces", "stress"])
            assert abs(float(found["energy"][place]) - exact["energy"]) < SAME
            assert np.abs(found["forces"][first : first + len(atoms)].numpy() - exact["forces"]).max() < SAME
            stress = voigt_6_to_full_3x3_stress(exact["stress"])
            assert np.abs(found["stress"][place].numpy() - stress).max() < SAME
            first += len(atoms)

    def test_torch_sim_relaxes_with_it(self, metal_model) -> None:
        import torch_sim

        from lie_sim.calculators.torch_sim import TorchSimModel

        systems = [bulk("Al", cubic=True), bulk("Al", cubic=True) * (2, 1, 1)]
        for atoms in systems:
            atoms.rattle(0.1, seed=0)
        model = TorchSimModel(metal_model)
        converged = torch_sim.generate_force_convergence_fn(force_tol=0.01, include_cell_forces=False)
        known = getattr(torch_sim, "Optimizer", torch_sim.optimizers)  # an enumeration since 0.4
        final = torch_sim.optimize(
            systems, model, optimizer=known.fire, convergence_fn=converged, max_steps=200
        )
        assert float(model(final)["forces"].norm(dim=-1).max()) < 0.02


@pytest.mark.skipif(not installed.args[0], reason="torch-sim-atomistic is installed")
def test_without_torch_sim_the_model_says_what_to_install(potential) -> None:
    from lie_sim.calculators.torch_sim import TorchSimModel

    with pytest.raises(ImportError, match=r"pip install 'lie_sim\[torchsim\]'"):
        TorchSimModel(potential)
