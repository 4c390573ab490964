"""SchNetPack's PaiNN.

References: Schütt, Unke, Gastegger, ICML 2021; Schütt et al., J. Chem. Phys. 158 (2023) 144801.
"""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor

from molecule_peers.base import CUTOFF, Graph, Peer


class PaiNN(Peer):
    """SchNetPack's PaiNN."""

    features = 128

    def build(self) -> None:
        """As the package's configuration for MD17; energies less their mean, in units of the scale."""
        import_schnetpack()
        import schnetpack as spk
        import schnetpack.transform

        self.neighbour_list = schnetpack.transform.MatScipyNeighborList(cutoff=CUTOFF)
        self.module = spk.model.NeuralNetworkPotential(
            representation=spk.representation.PaiNN(
                n_atom_basis=self.features,
                n_interactions=3,
                radial_basis=spk.nn.GaussianRBF(n_rbf=20, cutoff=CUTOFF),
                cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
            ),
            input_modules=[
                *([spk.atomistic.Strain()] if self.stress else []),
                spk.atomistic.PairwiseDistances(),
            ],
            output_modules=[
                spk.atomistic.Atomwise(n_in=self.features, output_key="energy"),
                spk.atomistic.Forces(calc_stress=self.stress, energy_key="energy", force_key="forces"),
            ],
        ).to(self.dtype)
        self.converter = spk.interfaces.AtomsConverter(neighbor_list=self.neighbour_list, dtype=self.dtype)

    def graph(self, atoms: Atoms) -> Graph:
        """SchNetPack's dictionary of one structure."""
        return self.converter(atoms)

    def evaluate(self, graphs: Sequence[Graph], *, training: bool) -> tuple[Tensor, Tensor]:
        """Joined as the package's loader joins them."""
        from schnetpack.data.loader import _atoms_collate_fn

        self.module.train(training)
        found = self.module(_atoms_collate_fn(list(graphs)))
        return found["energy"].double() * self.scale + self.shift, found["forces"] * self.scale

    def calculator(self) -> Calculator:
        """SpkCalculator."""
        from schnetpack.interfaces import SpkCalculator

        return SpkCalculator(
            self.frozen(),
            neighbor_list=self.neighbour_list,
            energy_unit="eV",
            dtype=self.dtype,
            stress_key="stress" if self.stress else None,
        )


class PaiNN64(PaiNN):
    """Half as wide: better within minutes on one core."""

    features = 64


def import_schnetpack() -> None:
    """SchNetPack 2.2.0 imports a name that torch dropped after 2.8: put it there."""
    import torch.utils.data.dataloader as loader

    if not hasattr(loader, "_T_co"):
        from typing import TypeVar

        loader._T_co = TypeVar("_T_co", covariant=True)
