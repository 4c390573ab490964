"""What every peer of the molecular benchmarks can be asked for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor, nn

from molecule_peers.optimizers import AdamW, Muon, Optimizer

CUTOFF = 5.0
Graph = Any
"""What a package makes of one structure."""


class Peer:
    """A network with its package's way of feeding it.

    Args:
        elements: atomic numbers that it has to know.
        scale: of the energies and forces that it will learn, eV (and eV/Å).
        shift: mean energy per structure, eV.
        neighbours: mean number of neighbours within the cutoff.
        dtype: of the network.
        stress: whether the calculator has to give the stress too; only SchNetPack needs to be told.
    """

    batch = 10
    """Structures of a training step, as the authors recommend for a thousand frames."""
    amsgrad = False
    module: nn.Module

    def __init__(
        self,
        elements: Sequence[int],
        *,
        scale: float = 1.0,
        shift: float = 0.0,
        neighbours: float = 8.0,
        dtype: torch.dtype = torch.float32,
        stress: bool = False,
    ) -> None:
        self.elements, self.scale, self.shift = sorted(elements), scale, shift
        self.neighbours, self.dtype, self.stress = neighbours, dtype, stress
        self.build()

    def build(self) -> None:
        """Make ``module``."""
        raise NotImplementedError

    def graph(self, atoms: Atoms) -> Graph:
        """Input of one structure, its list of neighbours included."""
        raise NotImplementedError

    def evaluate(self, graphs: Sequence[Graph], *, training: bool) -> tuple[Tensor, Tensor]:
        """Energies (B,) in eV, float64, and forces (A, 3) of the atoms of all structures."""
        raise NotImplementedError

    def calculator(self) -> Calculator:
        """The package's own ASE calculator."""
        raise NotImplementedError

    def frozen(self) -> nn.Module:
        """A copy whose weights need no gradients, as the calculators want it."""
        return copy.deepcopy(self.module).eval().requires_grad_(False)

    def matrices(self) -> list[tuple[nn.Parameter, list[tuple[slice, tuple[int, int]]]]]:
        """Weights that are matrices, for Muon: parameter, and its parts with their shapes."""
        return [
            (p, [(slice(0, p.numel()), (p.shape[0], p.shape[1]))])
            for p in self.module.parameters()
            if p.ndim == 2 and min(p.shape) >= 4
        ]

    def optimizer(self, name: str) -> Optimizer:
        """AdamW, or Muon with AdamW for what is no matrix."""
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        if name == "muon":
            return Muon(parameters, self.matrices())
        return AdamW(parameters, amsgrad=self.amsgrad)


class default_dtype:  # noqa: N801
    """MACE and e3nn read torch's default dtype; it is put back."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.before = dtype, torch.get_default_dtype()

    def __enter__(self) -> None:
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)
