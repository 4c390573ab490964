"""The calculator: a trained potential behind ASE's interface.

    atoms.calc = LieTransformerCalculator("model")
    atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

One evaluation gives energy, energies and forces together; the stress is added when it is asked for. Units are ASE's:
eV, eV/Å, eV/Å³, Voigt order xx, yy, zz, yz, xz, xy, positive under tension.

Shape letters: N atoms.
Reference: Larsen et al., "The atomic simulation environment", J. Phys.: Condens. Matter 29 (2017) 273002.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, InputError, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from lie_sim.calculators.hessian import SecondDerivatives
from lie_sim.calculators.many import predict_many
from lie_sim.calculators.structures import Structures, structures
from lie_sim.checkpoint import fingerprint, load_model
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import AtomicPotential, Evaluation, evaluate
from lie_sim.pairs import SkinnedPairs

DTYPES = {"float32": torch.float32, "float64": torch.float64}
PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress", "stresses")
_OF_A_LATTICE = ("stress", "stresses")


class LieTransformerCalculator(Calculator):
    """Energies, forces and stresses of a learned potential in every workflow of ASE.

    Args:
        model: a folder that :func:`~lie_sim.save_model` wrote, or the model itself: an
            :class:`~lie_sim.models.AtomicPotential` or a Hamiltonian with one. It is copied.
        device: where to compute, such as ``"cuda"``.
        dtype: ``"float32"`` or ``"float64"``; None keeps that of the model.
        skin: Å by which the list of neighbours reaches further than the cutoff, so that it lasts for many steps of
            molecular dynamics; 0 searches at every step. It changes no result.
        compute: what every evaluation gives, beside what is asked for: add ``"stress"`` where it is always needed.
        ensemble: further models; results are the means, and ``results["energy_std"]`` (eV) and
            ``results["forces_std"]`` (eV/Å, shape (N, 3)) their standard deviations.

    Attributes:
        evaluations: how often the model was run.
        potentials: the models in use, one unless there is an ensemble.
        torch_dtype: in which they compute.
        torch_device: where.

    Raises:
        TypeError: ``model`` is no potential of atoms.
        ValueError: an option is impossible.

    Example:
        >>> from ase.build import molecule
        >>> calculator = LieTransformerCalculator(AtomicPotential.default(elements=(1, 8)))
        >>> water = molecule("H2O", calculator=calculator)
        >>> water.get_forces().shape, isinstance(water.get_potential_energy(), float), calculator.evaluations
        ((3, 3), True, 1)
    """

    name = "lie_sim"
    discard_results_on_any_change = True

    def __init__(
        self,
        model: str | Path | AtomicPotential | Hamiltonian,
        *,
        device: str | torch.device = "cpu",
        dtype: str | None = None,
        skin: float = 0.5,
        compute: Sequence[str] = ("energy", "forces"),
        ensemble: Sequence[str | Path | AtomicPotential | Hamiltonian] = (),
        **keywords: Any,
    ) -> None:
        self.implemented_properties = list(PROPERTIES)
        self._models = [atomic_potential(each) for each in (model, *ensemble)]
        self.evaluations = 0
        self._info: dict[str, Any] = {}
        own = parameters_of(self._models[0], device=device, dtype=dtype, skin=skin, compute=compute)
        super().__init__(**keywords, **own)

    def set(self, **changes: Any) -> dict[str, Any]:
        """Change ``device``, ``dtype``, ``skin`` or ``compute``; results so far are dropped.

        Raises:
            ValueError: there is no such option, or not with this value.
        """
        known = {"device", "dtype", "skin", "compute"}
        if not set(changes) <= known:
            raise ValueError(
                f"{type(self).__name__} has no option {', '.join(sorted(set(changes) - known))}; "
                f"its options are {', '.join(sorted(known))}"
            )
        merged = {**(self.parameters or {}), **changes}
        checked = parameters_of(self._models[0], **merged)
        changed: dict[str, Any] = super().set(**checked)
        self.torch_dtype, self.torch_device = DTYPES[checked["dtype"]], torch.device(checked["device"])
        self.potentials = [
            copy.deepcopy(each).to(device=self.torch_device, dtype=self.torch_dtype).requires_grad_(False)
            for each in self._models
        ]
        cutoff = self.potentials[0].cutoff
        self._pairs = SkinnedPairs(cutoff, skin=checked["skin"]) if cutoff else None
        return changed

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What identifies the model, for the metadata of trajectories and databases."""
        prints = [fingerprint(each) for each in self._models]
        described = {"model": prints[0], "dtype": self.parameters["dtype"]}
        return described | ({"ensemble": prints[1:]} if prints[1:] else {})

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, entries of ``atoms.info`` that the model reads included."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        if self.atoms is not None and self._info != self._read_info(atoms):
            changes.append("info")
        return changes

    def _read_info(self, atoms: Atoms) -> dict[str, Any]:
        return {name: copy.deepcopy(atoms.info.get(name)) for name in self.potentials[0].config.inputs}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises:
            InputError: the system is impossible or unknown to the model; the message says why.
            PropertyNotImplementedError: the stress of a system without a volume.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        system = self.atoms
        assert system is not None
        self._info = self._read_info(system)
        wanted = {*properties, *self.parameters["compute"]}
        has_volume = abs(float(np.linalg.det(np.asarray(system.cell)))) > 0
        if set(properties) & set(_OF_A_LATTICE) and not has_volume:
            raise PropertyNotImplementedError(
                "the stress needs a volume, but the cell has none: give three lattice vectors (atoms.center(vacuum=…))"
            )
        self.results = self._results(system, virials=has_volume and bool(wanted & set(_OF_A_LATTICE)))

    def evaluate(self, atoms: Atoms, properties: Sequence[str] = ("energy", "forces")) -> dict[str, Any]:
        """The properties of a system; leaves the results of the calculator as they are.

        Raises:
            PropertyNotImplementedError: there is no such property.
        """
        self.require(properties)
        found = self._results(atoms, virials=bool(set(properties) & set(_OF_A_LATTICE)))
        return {name: found[name] for name in properties}

    def require(self, properties: Sequence[str]) -> None:
        """Refuse a property that the model does not give.

        Raises:
            PropertyNotImplementedError: it says which there are.
        """
        unknown = sorted(set(properties) - set(PROPERTIES))
        if unknown:
            raise PropertyNotImplementedError(
                f"no property {', '.join(unknown)}; there are {', '.join(PROPERTIES)}"
            )

    def predict_many(
        self,
        systems: Sequence[Atoms],
        *,
        properties: Sequence[str] = ("energy", "forces"),
        max_atoms: int = 512,
    ) -> list[dict[str, Any]]:
        """Properties of many structures, several at a time; see :func:`~lie_sim.calculators.predict_many`."""
        return predict_many(self, systems, properties=properties, max_atoms=max_atoms)

    def _structure(self, atoms: Atoms, *, list_pairs: bool = False) -> Structures:
        return structures(
            [atoms],
            self.potentials[0],
            dtype=self.torch_dtype,
            device=self.torch_device,
            list_pairs=list_pairs,
            skinned=self._pairs,
        )

    def _results(self, atoms: Atoms, *, virials: bool) -> dict[str, Any]:
        system = self._structure(atoms, list_pairs=virials)
        self.evaluations += 1
        arguments = system.q, system.particles, system.neighbours
        return self.gathered([evaluate(each, *arguments, virials=virials) for each in self.potentials], atoms)

    def gathered(self, found: Sequence[Evaluation], atoms: Atoms, row: int = 0) -> dict[str, Any]:
        """The results of one system of a batch, from what every model of the ensemble said."""
        results = [results_of(each, atoms, row) for each in found]
        return results[0] if len(results) == 1 else _mean(results)

    def get_hessian(self, atoms: Atoms | None = None, *, free: Sequence[int] | None = None) -> np.ndarray:
        """Second derivatives of the energy in eV/Å².

        Args:
            atoms: the system; None means that of the last calculation.
            free: atoms whose rows and columns are wanted, M of them; None means all, M = N.

        Returns:
            Shape (3M, 3M), symmetric.
        """
        system = self._derivatives(atoms)
        return system.matrix(free).cpu().numpy().astype(float)

    def get_hvp(self, vectors: np.ndarray, atoms: Atoms | None = None) -> np.ndarray:
        """Products of the Hessian with one vector (N, 3) or several (V, N, 3), without making the matrix; eV/Å² · v."""
        v = torch.as_tensor(np.asarray(vectors, dtype=float))
        products = self._derivatives(atoms).products(v if v.ndim == 3 else v[None])
        return products.reshape(v.shape).cpu().numpy().astype(float)

    def _derivatives(self, atoms: Atoms | None) -> SecondDerivatives:
        chosen = self.atoms if atoms is None else atoms
        if chosen is None:
            raise InputError("no atoms: pass atoms=…, or calculate something first")
        if len(self.potentials) > 1:
            raise PropertyNotImplementedError(
                "second derivatives are those of a single model, not of an ensemble"
            )
        system = self._structure(chosen)
        return SecondDerivatives(self.potentials[0], system.q, system.particles, system.neighbours)


def atomic_potential(model: Any) -> AtomicPotential:
    """A copy of the potential of atoms that a path or model holds.

    Raises:
        TypeError: it holds none.
    """
    loaded = load_model(model) if isinstance(model, str | Path) else model
    if isinstance(loaded, Hamiltonian):
        loaded = loaded.potential
    if not isinstance(loaded, AtomicPotential):
        raise TypeError(
            f"a potential of atoms (lie_sim.models.AtomicPotential) is needed, got {type(loaded).__name__}: "
            "other models do not know chemical elements"
        )
    return copy.deepcopy(loaded).eval()


def parameters_of(
    potential: AtomicPotential, *, device: Any, dtype: str | None, skin: float, compute: Sequence[str]
) -> dict[str, Any]:
    """Checked options, as plain values."""
    if dtype is None:
        dtype = str(next(potential.parameters()).dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if not 0 <= skin < float("inf"):
        raise ValueError(f"skin must be a length in Å, not negative, got {skin}")
    unknown = sorted(set(compute) - set(PROPERTIES))
    if unknown:
        raise ValueError(f"compute: no property {', '.join(unknown)}; there are {', '.join(PROPERTIES)}")
    return {"device": str(device), "dtype": dtype, "skin": float(skin), "compute": tuple(compute)}


def results_of(found: Evaluation, atoms: Atoms, row: int = 0) -> dict[str, Any]:
    """ASE's results of one system of a batch."""
    count = len(atoms)
    energies = found.energies[row, :count].cpu().numpy()
    energy = float(energies.sum())
    results = {
        "energy": energy,
        "free_energy": energy,
        "energies": energies,
        "forces": found.forces[row, :count].double().cpu().numpy(),
    }
    if found.virials is None:
        return results
    volume = atoms.get_volume()
    stresses = found.virials[row, :count].double().cpu().numpy() / volume
    voigt = np.stack([full_3x3_to_voigt_6_stress(each) for each in stresses])
    return results | {"stresses": voigt, "stress": voigt.sum(0)}


def _mean(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over an ensemble, and standard deviations of energy and forces."""
    mean = {name: np.mean([each[name] for each in found], axis=0) for name in found[0]}
    mean |= {name: float(mean[name]) for name in ("energy", "free_energy")}
    spread = {
        f"{name}_std": np.std([each[name] for each in found], axis=0, ddof=1) for name in ("energy", "forces")
    }
    return mean | spread | {"energy_std": float(spread["energy_std"])}
