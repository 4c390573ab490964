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
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, InputError, PropertyNotImplementedError, all_changes

import lie_sim.calculators.ase_plugin  # noqa: F401 - registers the name with ASE
from lie_sim.calculators.calibration import Calibration
from lie_sim.calculators.conversion import Structures, structures
from lie_sim.calculators.engine import Engine
from lie_sim.calculators.entries import are_as_kept, changes_between, entries_of
from lie_sim.calculators.hessian import SecondDerivatives
from lie_sim.calculators.many import predict_many, require_volumes
from lie_sim.calculators.options import DTYPES, Source, calibration_of, checked_options, potential_of
from lie_sim.calculators.results import BORN, OF_A_LATTICE, property_names
from lie_sim.calculators.uncertainty import uncertainty_names
from lie_sim.descriptions import fingerprint
from lie_sim.memory import keep_freed_memory
from lie_sim.pairs import SkinnedPairs


class LieTransformerCalculator(Calculator):
    """Energies, forces, stresses and molecular properties of a learned potential in every workflow of ASE.

    Args:
        model: a folder that :func:`~lie_sim.save_model` wrote, the name of a model that comes with lie_sim
            (:func:`lie_sim.shipped.shipped_models` lists them), or the model itself: an
            :class:`~lie_sim.models.AtomicPotential` or a Hamiltonian with one. It is copied, and needed: None, which
            ASE gives where nothing was said, is an error that says so.
        device: where to compute, such as ``"cuda"``.
        dtype: ``"float32"`` or ``"float64"``, or PyTorch's of that name; None keeps that of the model.
        skin: Å by which the list of neighbours reaches further than the cutoff, so that it lasts for many steps of
            molecular dynamics; 0 searches at every step. It changes no result.
        compute: what every evaluation gives, beside what is asked for and what heads tell; None means energy and
            forces. Add ``"stress"`` where it is always needed.
        info_keys: names of entries of ``atoms.info`` (or ``atoms.arrays``) whose change asks for a new calculation,
            beside those that the model reads, which are always among them; values may be arrays.
        ensemble: further models; results are the means, and ``results["energy_std"]`` (eV) and
            ``results["forces_std"]`` (eV/Å, shape (N, 3)) their standard deviations.
        calibration: of these deviations, a :class:`~lie_sim.calculators.Calibration` or its file; None takes that in
            the folder of ``model``, if there is one. It adds ``results["energy_interval"]`` (two energies, eV) and
            ``results["forces_bound"]`` (eV/Å, shape (N,)). With it a model alone gives ``energy_std`` too, from its
            last layer, at next to no cost, and ``forces_std`` and ``forces_bound`` where they are asked for.
        on_uncertain: what to do where the calibration knows no structures like this one: ``"warn"``, ``"raise"`` or
            ``"ignore"``; None means ``"warn"`` where there is a calibration.
        compile: compile evaluations: several times as fast for small systems, after up to a minute for every new number
            of atoms; see :mod:`lie_sim.calculators.compiled`. Results agree to round-off.

    It belongs to one thread, as every calculator of ASE: give each a ``copy.deepcopy`` of its own.

    On the CPU the process keeps memory that was freed from now on, see :func:`~lie_sim.memory.keep_freed_memory`:
    thousands of atoms are then evaluated twice as fast.

    Attributes:
        implemented_properties: what there is: energies, forces and stresses, and what the heads of the model give.
        evaluations: how often the model was run.
        models: copies of the models as they were given, one unless there is an ensemble.
        potentials: the same as they compute, in this dtype on this device.
        calibration: in use, or None.
        torch_dtype: in which they compute.
        torch_device: where.

    Raises:
        CheckpointError: there is no such model, or its files are damaged.
        TypeError: ``model`` is missing, or no potential of atoms.
        ValueError: an option is impossible.

    Example:
        >>> from ase.build import molecule
        >>> from lie_sim.models import AtomicPotential
        >>> calculator = LieTransformerCalculator(AtomicPotential.default(elements=(1, 8)))
        >>> water = molecule("H2O", calculator=calculator)
        >>> water.get_forces().shape, isinstance(water.get_potential_energy(), float), calculator.evaluations
        ((3, 3), True, 1)
    """

    name = "lie_sim"
    nolabel = True  # for "ase run": there are no files of our own to name
    discard_results_on_any_change = True

    def __init__(
        self,
        model: Source | None = None,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        compute: Sequence[str] | None = None,
        info_keys: Sequence[str] | None = None,
        ensemble: Sequence[Source] = (),
        calibration: Calibration | str | Path | None = None,
        on_uncertain: str | None = None,
        compile: bool = False,
        **keywords: Any,
    ) -> None:
        self.models = [potential_of(each) for each in (model, *ensemble)]
        self.calibration = calibration_of(calibration, model, self.models)
        uncertain = uncertainty_names(self.calibration, ensemble=len(self.models) > 1)
        self.implemented_properties = [*property_names(self.models), *uncertain]
        self.evaluations = 0
        self._entries: dict[str, Any] = {}
        options = {"device": device, "dtype": dtype, "skin": skin, "compute": compute, "info_keys": info_keys}
        options |= {"on_uncertain": on_uncertain, "compile": compile}
        super().__init__(**keywords, **options)

    def set(self, **changes: Any) -> dict[str, Any]:
        """Change ``device``, ``dtype``, ``skin``, ``compute``, ``info_keys``, ``on_uncertain`` or ``compile``.

        Raises:
            ValueError: there is no such option, or not with this value.
        """
        known = ("device", "dtype", "skin", "compute", "info_keys", "on_uncertain", "compile")
        if not set(changes) <= set(known):
            raise ValueError(
                f"{type(self).__name__} has no option {', '.join(sorted(set(changes) - set(known)))}; "
                f"its options are {', '.join(known)}"
            )
        merged = {**(self.parameters or {}), **changes}
        names, is_calibrated = self.implemented_properties, self.calibration is not None
        checked = checked_options(self.models[0], names=names, is_calibrated=is_calibrated, **merged)
        changed: dict[str, Any] = super().set(**checked)
        self.torch_dtype, self.torch_device = DTYPES[checked["dtype"]], torch.device(checked["device"])
        self.potentials = [
            copy.deepcopy(each).to(device=self.torch_device, dtype=self.torch_dtype).requires_grad_(False)
            for each in self.models
        ]
        self._engine = Engine(
            self.potentials,
            names=names,
            calibration=self.calibration,
            on_uncertain=checked["on_uncertain"],
            compile=checked["compile"],
        )
        if self.torch_device.type == "cpu":
            keep_freed_memory()
        cutoff = self.potentials[0].cutoff
        self._pairs = SkinnedPairs(cutoff, skin=checked["skin"]) if cutoff else None
        return changed

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What identifies the model, for the metadata of trajectories and databases."""
        prints = [fingerprint(each) for each in self.models]
        described = {"model": prints[0], "dtype": self.parameters["dtype"]}
        return described | ({"ensemble": prints[1:]} if prints[1:] else {})

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, the entries named by ``info_keys`` included."""
        changes = changes_between(self.atoms, atoms, tol=tol)
        if self.atoms is not None and not are_as_kept(self._entries, atoms):
            changes.append("info")
        return changes

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE's, with a message that says what there is.

        Raises:
            PropertyNotImplementedError: the model does not give this property.
        """
        self.require([name])
        return super().get_property(name, atoms, allow_calculation)

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
        self._entries = entries_of(system, self.parameters["info_keys"])
        require_volumes([system], properties)
        wanted = {*properties, *self.parameters["compute"]}
        self.results = self._results(system, wanted if system.cell.rank == 3 else wanted - OF_A_LATTICE)

    def evaluate(self, atoms: Atoms, properties: Sequence[str] | None = None) -> dict[str, Any]:
        """The properties of a system; leaves the results of the calculator as they are.

        Args:
            atoms: the system.
            properties: of ``implemented_properties``; None for energy and forces, or for what the heads of a model
                without energy tell.

        Raises:
            PropertyNotImplementedError: there is no such property, or no volume for a stress.
        """
        properties = self.usual_properties if properties is None else properties
        self.require(properties)
        require_volumes([atoms], properties)
        found = self._results(atoms, set(properties))
        return {name: found[name] for name in properties}

    @property
    def usual_properties(self) -> tuple[str, ...]:
        """Energy and forces, or what the heads of a model without energy tell."""
        if "energy" in self.implemented_properties:
            return ("energy", "forces")
        return tuple(name for name in self.implemented_properties if name != BORN)

    def require(self, properties: Sequence[str]) -> None:
        """Refuse a property that the model does not give.

        Raises:
            PropertyNotImplementedError: it says which there are.
            TypeError: they are a single string.
        """
        if isinstance(properties, str):
            raise TypeError(f"properties must be a list of names, got {properties!r}: write [{properties!r}]")
        unknown = sorted(set(properties) - set(self.implemented_properties))
        if unknown:
            of_errors = {"energy_std", "energy_interval", "forces_std", "forces_bound"} & set(unknown)
            need = "ensemble or calibration (Calibration.fit)" if of_errors else "model with a head for them"
            raise PropertyNotImplementedError(
                f"no property {', '.join(unknown)}: this model gives {', '.join(self.implemented_properties)}; "
                f"others need {'an' if of_errors else 'a'} {need}"
            )

    def predict_many(
        self,
        systems: Iterable[Atoms],
        *,
        properties: Sequence[str] | None = None,
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

    def _results(self, atoms: Atoms, wanted: Set[str]) -> dict[str, Any]:
        return self.answers(self._structure(atoms, list_pairs=bool(wanted & OF_A_LATTICE)), [atoms], wanted)[
            0
        ]

    def answers(self, batch: Structures, systems: Sequence[Atoms], wanted: Set[str]) -> list[dict[str, Any]]:
        """The results of every system of a batch, with at least what is wanted."""
        self.evaluations += 1
        return self._engine(batch, systems, wanted)

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
