"""NequIP.

Reference: Batzner et al., Nat. Commun. 13 (2022) 2453.
"""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from torch import Tensor

from molecule_peers.base import CUTOFF, Graph, Peer


class NequIP(Peer):
    """NequIP, run eagerly."""

    def build(self) -> None:
        """``NequIPGNNModel`` with its defaults."""
        from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
        from nequip.model import NequIPGNNModel
        from nequip.utils.global_state import set_global_state

        set_global_state()
        names = [chemical_symbols[z] for z in self.elements]
        self.transforms = [
            ChemicalSpeciesToAtomTypeMapper(model_type_names=names),
            NeighborListTransform(r_max=CUTOFF),
        ]
        self.module = NequIPGNNModel(
            seed=0,
            model_dtype=str(self.dtype).removeprefix("torch."),
            r_max=CUTOFF,
            type_names=names,
            num_layers=4,
            l_max=1,
            parity=True,
            num_features=32,
            avg_num_neighbors=self.neighbours,
        )

    def graph(self, atoms: Atoms) -> Graph:
        """NequIP's dictionary of one structure."""
        from nequip.data import from_ase

        data = from_ase(atoms)
        for transform in self.transforms:
            data = transform(data)
        return data

    def evaluate(self, graphs: Sequence[Graph], *, training: bool) -> tuple[Tensor, Tensor]:
        """Joined as the package joins them."""
        from nequip.data import AtomicDataDict

        self.module.train(training)
        found = self.module(AtomicDataDict.batched_from_list(list(graphs)))
        return found["total_energy"].double().squeeze(-1), found["forces"]

    def calculator(self) -> Calculator:
        """NequIPCalculator."""
        from nequip.integrations.ase import NequIPCalculator

        return NequIPCalculator(self.frozen(), device="cpu", transforms=self.transforms)
