"""The potential as a model of TorchSim, which moves many systems at once.

    import torch_sim
    torch_sim.integrate(systems, TorchSimModel("model"), integrator=torch_sim.nvt_langevin, …)

Energies, forces and stresses are those of the calculator; cells are columns there and rows here. Needs the extra
``lie_sim[torchsim]``.

Shape letters: S systems, A atoms of all systems, B batch, N atoms of the largest.
Reference: Cohen et al., TorchSim, arXiv:2508.06628.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import InputError
from jaxtyping import Float
from torch import Tensor

from lie_sim.calculators.conversion import Structures, structures
from lie_sim.calculators.options import DTYPES, Source, potential_of
from lie_sim.models import Evaluation, evaluate

_Interface: Any = torch.nn.Module
if find_spec("torch_sim") is not None:
    _Interface = import_module("torch_sim.models.interface").ModelInterface


class TorchSimModel(_Interface):
    """Energies, forces and stresses of a learned potential for TorchSim.

    Args:
        model: a folder with a model, or the model itself, as of
            :class:`~lie_sim.calculators.LieTransformerCalculator`.
        device: where to compute.
        dtype: None keeps that of the model.
        compute_stress: whether to compute the stress, which systems without a cell do not have.

    Raises:
        ImportError: TorchSim is not installed.
        ValueError: the dtype is neither float32 nor float64.
    """

    def __init__(
        self,
        model: Source,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        compute_stress: bool = True,
    ) -> None:
        if _Interface is torch.nn.Module:
            raise ImportError(
                "TorchSim is not installed: pip install 'lie_sim[torchsim]' (package torch-sim-atomistic); without it, "
                "LieTransformerCalculator.predict_many evaluates many systems at once"
            )
        super().__init__()
        potential = potential_of(model)
        own = next(potential.parameters()).dtype
        if dtype not in (None, *DTYPES.values()):
            raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES.values()))}, got {dtype}")
        self._device, self._dtype = torch.device(device), dtype or own
        self._compute_forces, self._compute_stress = True, compute_stress
        self.potential = potential.to(device=self._device, dtype=self._dtype).requires_grad_(False)

    @property
    def compute_stress(self) -> bool:
        """Whether stresses are computed; may be set."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress: bool) -> None:
        self._compute_stress = compute_stress

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energy (S,) in eV, forces (A, 3) in eV/Å, stress (S, 3, 3) in eV/Å³, and what heads tell, (S, …) or (A,).

        Args:
            state: of TorchSim, or the dictionary of its tensors.

        Raises:
            InputError: a system is impossible, or has no volume for its stress.
        """
        if isinstance(state, dict):
            state = import_module("torch_sim.state").SimState(**state)
        systems = systems_of(state)
        batch = structures(
            systems,
            self.potential,
            dtype=self._dtype,
            device=self._device,
            list_pairs=self._compute_stress,
        )
        found = evaluate(
            self.potential, batch.q, batch.particles, batch.neighbours, virials=self._compute_stress
        )
        return self._answer(found, batch, torch.as_tensor(state.cell, device=self._device))

    def _answer(
        self, found: Evaluation, batch: Structures, cell: Float[Tensor, "S 3 3"]
    ) -> dict[str, Tensor]:
        exists = torch.arange(batch.q.shape[1], device=self._device) < torch.tensor(
            batch.sizes, device=self._device
        ).unsqueeze(1)
        answer = {"energy": found.energy.to(self._dtype), "forces": found.forces[exists]}
        if found.virials is not None:
            answer["stress"] = found.virials.sum(1) / volumes(cell).to(found.virials.dtype)[:, None, None]
        for name, value in found.properties.items():
            answer[name] = (value[exists] if name == "charges" else value).to(self._dtype)
        return answer


def volumes(cell: Float[Tensor, "S 3 3"]) -> Float[Tensor, " S"]:
    """Volumes of the cells in Å³.

    Raises:
        InputError: a cell has none.

    Example:
        >>> volumes(2 * torch.eye(3)[None])
        tensor([8.])
    """
    found: Tensor = torch.linalg.det(cell).abs()
    flat = torch.nonzero(~(found > 0)).flatten().tolist()
    if flat:
        raise InputError(
            f"the stress needs a volume, which the systems {flat[:5]} do not have: give them a cell, or say "
            "compute_stress=False"
        )
    return found


def systems_of(state: Any) -> list[Atoms]:
    """The systems of a TorchSim state, with positions as they are, wrapped or not."""
    positions = state.positions.detach().cpu().double().numpy()
    numbers, place = state.atomic_numbers.cpu().numpy(), state.system_idx.cpu().numpy()
    cells = state.cell.detach().mT.cpu().double().numpy()
    pbc = state.pbc.tolist() if isinstance(state.pbc, Tensor) else state.pbc
    return [
        Atoms(numbers[place == k], positions[place == k], cell=cell, pbc=pbc) for k, cell in enumerate(cells)
    ]
