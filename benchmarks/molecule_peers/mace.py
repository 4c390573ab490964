"""MACE, set up as ``mace_run_train`` does it.

Reference: Batatia et al., NeurIPS 2022.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor, nn

from molecule_peers.base import CUTOFF, Graph, Peer, default_dtype


class MACE(Peer):
    """MACE with invariant messages."""

    batch = 5
    amsgrad = True
    irreps = "64x0e"

    def build(self) -> None:
        """ScaleShiftMACE, reference energies from the mean, as ``mace_run_train`` sets it up."""
        import_mace()
        from e3nn import o3
        from mace import modules
        from mace.tools import AtomicNumberTable

        self.table = AtomicNumberTable(list(self.elements))
        with default_dtype(self.dtype):  # e3nn rounds its constants to it
            blocks = modules.interaction_classes
            self.module = modules.ScaleShiftMACE(
                r_max=CUTOFF,
                num_bessel=8,
                num_polynomial_cutoff=5,
                max_ell=3,
                interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
                interaction_cls_first=blocks["RealAgnosticInteractionBlock"],
                num_interactions=2,
                num_elements=len(self.elements),
                hidden_irreps=o3.Irreps(self.irreps),
                MLP_irreps=o3.Irreps("16x0e"),
                atomic_energies=np.zeros(len(self.elements)),
                avg_num_neighbors=self.neighbours,
                atomic_numbers=list(self.elements),
                correlation=3,
                gate=modules.gate_dict["silu"],
                radial_MLP=[64, 64, 64],
                radial_type="bessel",
                atomic_inter_scale=self.scale,
                atomic_inter_shift=0.0,
            ).to(self.dtype)

    def graph(self, atoms: Atoms) -> Graph:
        """MACE's AtomicData."""
        from mace.data import AtomicData, config_from_atoms

        with default_dtype(self.dtype):
            return AtomicData.from_config(config_from_atoms(atoms), z_table=self.table, cutoff=CUTOFF)

    def evaluate(self, graphs: Sequence[Graph], *, training: bool) -> tuple[Tensor, Tensor]:
        """Joined as the package's loader joins them."""
        from mace.tools.torch_geometric.batch import Batch

        batch = Batch.from_data_list(list(graphs)).to_dict()
        self.module.train(training)
        found = self.module(batch, training=training, compute_force=True)
        return found["energy"].double() + self.shift, found["forces"]

    def calculator(self) -> Calculator:
        """MACECalculator."""
        from mace.calculators import MACECalculator

        name = str(self.dtype).removeprefix("torch.")
        return MACECalculator(models=[self.frozen()], device="cpu", default_dtype=name)

    def matrices(self) -> list[tuple[nn.Parameter, list[tuple[slice, tuple[int, int]]]]]:
        """Linear layers of e3nn keep the matrices of all irreps in one row of numbers."""
        from e3nn import o3

        found = super().matrices()
        for layer in self.module.modules():
            if not isinstance(layer, o3.Linear) or layer.weight_numel == 0:
                continue
            parts, start = [], 0
            for instruction in layer.instructions:
                shape = tuple(instruction.path_shape)
                size = int(np.prod(shape))
                if len(shape) == 2 and min(shape) >= 4 and instruction.i_in != -1:
                    parts.append((slice(start, start + size), shape))
                start += size if instruction.i_in != -1 else 0
            if parts and sum(part.stop - part.start for part, _ in parts) == layer.weight.numel():
                found.append((layer.weight, parts))
        return found


class MACE128(MACE):
    """MACE with vector messages as well."""

    irreps = "128x0e + 128x1o"


def import_mace() -> None:
    """Before anything of e3nn, whose constants torch loads since 2.6 only with the setting that mace makes."""
    importlib.import_module("mace")
