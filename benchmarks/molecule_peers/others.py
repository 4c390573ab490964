"""ANI's architecture, SevenNet-0 as it is shipped, and the quantum chemistry that made the labels.

References: Devereux et al., J. Chem. Theory Comput. 16 (2020) 4192 (ANI-2x); Park et al., J. Chem. Theory Comput. 20
(2024) 4857 (SevenNet); Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15 (2019) 1652 (GFN2-xTB).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor, nn

from molecule_peers.base import Graph, Peer


class ANI(Peer):
    """The architecture of one of ANI-2x's eight networks, by TorchANI, with random weights."""

    def build(self) -> None:
        """All seven elements of ANI-2x."""
        import torchani

        self.module = torchani.arch.simple_ani(
            ("H", "C", "N", "O", "F", "S", "Cl"),
            lot="wb97x-631gd",
            cutoff_fn="cosine",
            radial_start=0.8,
            angular_start=0.8,
            radial_cutoff=5.1,
            repulsion=False,
            activation="celu",
            bias=True,
        ).to(self.dtype)

    def graph(self, atoms: Atoms) -> Graph:
        """Atomic numbers and positions: it finds its own neighbours."""
        return torch.from_numpy(atoms.numbers), torch.from_numpy(atoms.positions).to(self.dtype)

    def evaluate(self, graphs: Sequence[Graph], *, training: bool) -> tuple[Tensor, Tensor]:
        """For molecules of one size."""
        self.module.train(training)
        numbers = torch.stack([numbers for numbers, _ in graphs])
        x = torch.stack([positions for _, positions in graphs]).requires_grad_(True)
        energies = self.module((numbers, x)).energies
        (slope,) = torch.autograd.grad(energies.sum(), x, create_graph=training)
        return energies.double(), -slope.flatten(0, 1)

    def calculator(self) -> Calculator:
        """TorchANI's."""
        return self.frozen().ase()


class OnlyCalculator(Peer):
    """A peer of which only the calculator is used."""

    def build(self) -> None:
        """Nothing is made before the calculator is."""
        self.module = nn.Module()


class SevenNet0(OnlyCalculator):
    """SevenNet-0 with the weights in its wheel; float32 only."""

    def calculator(self) -> Calculator:
        """SevenNetCalculator."""
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator("7net-0", device="cpu")


class GFN2(OnlyCalculator):
    """GFN2-xTB: the quantum chemistry that made the labels."""

    def calculator(self) -> Calculator:
        """TBLite, to nearly double precision."""
        from tblite.ase import TBLite

        return TBLite(method="GFN2-xTB", accuracy=1e-4, verbosity=0)
