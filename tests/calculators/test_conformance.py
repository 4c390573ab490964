"""Our calculator through the battery that any calculator can be run through, and the battery through broken ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.models import AtomicPotential
from lie_sim.testing import CalculatorConformance

CHIRAL = {"lifting": "frame", "radial": "gaussian", "num_frames": 3, "num_moments": 0, "chirality": True}


class TestLieTransformer(CalculatorConformance):
    cutoff = 4.0
    force_step = 2e-5

    @pytest.fixture(autouse=True)
    def _model(self, random_potential) -> None:
        self._potential = random_potential()

    def make_calculator(self) -> LieTransformerCalculator:
        return LieTransformerCalculator(self._potential)


class TestSE3Transformer(TestLieTransformer):
    """The same of another network."""

    @pytest.fixture(autouse=True)
    def _model(self) -> None:
        pytest.importorskip("e3nn")
        torch.manual_seed(0)
        network = {"width": 8, "num_heads": 2, "kernel_hidden": 16, "cutoff": 4.0}
        self._potential = AtomicPotential.default(
            elements=(1, 6, 8, 13), architecture="se3_transformer", network=network
        ).double()
        with torch.no_grad():  # the branches that begin at zero
            for parameter in self._potential.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))


class TestChiral(TestLieTransformer):
    """SO(3) only: a mirror image has another energy."""

    reflections = False

    @pytest.fixture(autouse=True)
    def _model(self, random_potential) -> None:
        self._potential = random_potential(network=CHIRAL)

    def test_a_reflection_is_outside_of_its_group(self) -> None:
        with pytest.raises(AssertionError, match=r"energy turned: error"):
            type(
                "Mirror", (TestLieTransformer,), {"_potential": self._potential}
            )().test_energy_and_forces_turn_with_the_system()


class Broken(EMT):
    """EMT for molecules, with a fault by name."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        if self.fault == "forces":
            self.results["forces"] = self.results["forces"] * 1.001
        elif self.fault == "direction":
            self.results["energy"] += 1e-3 * np.square(x[:, 0] - x[:, 0].mean()).sum()
        elif self.fault == "place":
            self.results["energy"] += 1e-9 * float(x[:, 0].sum())
        elif self.fault == "order":
            self.results["energy"] += 1e-3 * float(np.arange(len(x)) @ x[:, 0])
        elif self.fault == "size":
            self.results["energy"] += 1e-6 * len(x) ** 2
        elif self.fault == "blind":
            self.results["energy"] = -3.0
            self.results["forces"] = np.zeros_like(x)
        elif self.fault == "jump":
            distance = np.linalg.norm(x[-1] - x[0])
            self.results["energy"] += 1e-8 * (distance < 4.0)


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("forces", "test_forces_are_the_slope_of_the_energy"),
        ("direction", "test_energy_and_forces_turn_with_the_system"),
        ("blind", "test_a_stretch_is_no_symmetry"),
        ("place", "test_energy_does_not_depend_on_place_or_order"),
        ("order", "test_energy_does_not_depend_on_place_or_order"),
        ("size", "test_energies_of_distant_systems_add_up"),
        ("size", "test_a_supercell_is_so_many_cells_and_wrapping_changes_nothing"),
        ("jump", "test_energy_is_continuous_where_a_neighbour_leaves"),
        ("", "test_what_is_impossible_is_refused"),
    ],
)
def test_the_battery_notices(fault: str, test: str) -> None:
    class Battery(CalculatorConformance):
        cutoff = 4.0

        def make_calculator(self) -> Broken:
            return Broken(fault)

    with pytest.raises(AssertionError):
        getattr(Battery(), test)()


def test_the_battery_passes_what_is_right() -> None:
    """ASE's own EMT, in what it claims."""

    class Battery(CalculatorConformance):
        def make_calculator(self) -> EMT:
            return EMT()

    battery = Battery()
    battery.test_forces_are_the_slope_of_the_energy()
    battery.test_stress_is_the_slope_of_the_energy()
    battery.test_energy_and_forces_turn_with_the_system()
    battery.test_energy_does_not_depend_on_place_or_order()
    battery.test_energies_of_distant_systems_add_up()
    battery.test_a_lone_atom_has_an_energy_and_no_force()
    battery.test_forces_then_energy_is_one_calculation()
