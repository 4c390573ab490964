"""The peers of the molecular benchmarks: SchNetPack's PaiNN, MACE, NequIP, ANI, SevenNet-0, GFN2-xTB.

Imported where the packages are installed (make bench-env-molecules), and each package only when its peer is made. A
peer is a network, how structures become its input, and the ASE calculator that its package ships; networks are
untrained unless molecules_training.py trains them, and SevenNet-0 comes with its weights.

Settings are those that the authors recommend for small molecules:

    painn    SchNetPack: 3 interactions, 20 Gaussians, cutoff 5 Å, 128 features ("painn64": 64)
    mace     64x0e, 2 layers, correlation 3, ℓ ≤ 3, 8 Bessel functions, cutoff 5 Å ("mace128": 128x0e + 128x1o)
    nequip   ℓ ≤ 1 with parity, 32 features, 4 layers, cutoff 5 Å
    ani      one network of ANI-2x, for speed only

References: Schütt, Unke, Gastegger, ICML 2021 (PaiNN); Schütt et al., J. Chem. Phys. 158 (2023) 144801 (SchNetPack 2);
Batatia et al., NeurIPS 2022 (MACE); Batzner et al., Nat. Commun. 13 (2022) 2453 (NequIP).
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from peer_optimizers import AdamW, Muon, Optimizer
from torch import Tensor, nn

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
        with default_dtype(dtype):  # e3nn rounds its constants to it
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


class default_dtype:  # noqa: N801
    """MACE and e3nn read torch's default dtype; it is put back."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.before = dtype, torch.get_default_dtype()

    def __enter__(self) -> None:
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)


def import_mace() -> None:
    """Before anything of e3nn, whose constants torch loads since 2.6 only with the setting that mace makes."""
    importlib.import_module("mace")


def import_schnetpack() -> None:
    """SchNetPack 2.2.0 imports a name that torch dropped after 2.8: put it there."""
    import torch.utils.data.dataloader as loader

    if not hasattr(loader, "_T_co"):
        from typing import TypeVar

        loader._T_co = TypeVar("_T_co", covariant=True)


PEERS: dict[str, Callable[..., Peer]] = {
    "painn": PaiNN,
    "painn64": PaiNN64,
    "mace": MACE,
    "mace128": MACE128,
    "nequip": NequIP,
    "ani": ANI,
    "sevennet0": SevenNet0,
    "gfn2": GFN2,
}
