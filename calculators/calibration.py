"""Deviations that mean what they say: scaled and turned into intervals by errors on held-out structures.

    energy_std       s·σ(E),        s² = mean of (E − Ê)²/σ² over the held-out structures
    energy_interval  Ê ± q σ(E),    q the conformal quantile of |E − Ê|/σ
    forces_bound     q_F |σ(F_i)|,  q_F likewise of |F_i − F̂_i|/|σ(F_i)| over the atoms

σ is that of an ensemble, or of the last layer of one model. A system is uncertain where its deviation per atom exceeds
that of 99 % of the held-out structures.

Shape letters: M structures, N atoms, D features.
Reference: Angelopoulos, Bates, arXiv:2107.07511; Bigi et al., Mach. Learn.: Sci. Technol. 5 (2024) 045018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms
from torch import Tensor

from lie_sim.data.molecules import Molecules
from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.errors import DataError

if TYPE_CHECKING:
    from lie_sim.calculators.calculator import LieTransformerCalculator

SOURCES = ("ensemble", "last_layer")
FILE_NAME = "calibration.safetensors"
_KIND = "calibration"


@dataclass(frozen=True)
class Calibration:
    """What held-out structures taught of the errors of a model.

    Args:
        source: of the deviations, ``"ensemble"`` or ``"last_layer"``.
        models: fingerprints of the models that it is for.
        coverage: share of structures whose energies lie in the interval.
        energy_scale: s, from σ(E) to a standard deviation in eV.
        energy_quantile: q, in units of σ(E).
        energy_limit: σ(E) over the number of atoms that 99 % of the held-out structures stay below.
        forces_scale: likewise of the components of the forces; 0 where forces were not calibrated.
        forces_quantile: q_F, in units of |σ(F_i)|.
        forces_limit: |σ(F_i)| of the most uncertain atom that 99 % of the held-out structures stay below.
        num_structures: M, how many were held out.
        factor: L of the last layer, shape (D, D); None for an ensemble.

    Example: see :meth:`fit`.
    """

    source: str
    models: tuple[str, ...]
    coverage: float
    energy_scale: float
    energy_quantile: float
    energy_limit: float
    forces_scale: float
    forces_quantile: float
    forces_limit: float
    num_structures: int
    factor: Tensor | None = field(default=None, repr=False)

    @property
    def has_forces(self) -> bool:
        """Whether forces were calibrated."""
        return self.forces_scale > 0

    @classmethod
    def fit(
        cls,
        calculator: LieTransformerCalculator,
        held_out: Molecules | Sequence[Atoms],
        *,
        coverage: float = 0.9,
        known: Molecules | Sequence[Atoms] | None = None,
        forces: bool = True,
        most_with_forces: int | None = None,
        ridge: float = 1e-6,
        seed: int = 0,
    ) -> Calibration:
        """Compare a model with reference values that it was not trained on.

        Args:
            calculator: the model, or the ensemble.
            held_out: structures with energies (and forces), like those that the model will be used for.
            coverage: share of new structures whose energy shall lie in the interval.
            known: structures whose features say what the last layer knows, best those of the training; None takes a
                random half of ``held_out``, and the other half alone is calibrated with. Not for an ensemble.
            forces: calibrate those too, where the structures have them.
            most_with_forces: structures that forces are calibrated with, drawn by the seed, for deviations of forces
                take a reverse pass for every feature of the last layer; None for all.
            ridge: of the last layer, λ in :func:`~lie_sim.calculators.linear_posterior.posterior_factor`.
            seed: of what is drawn.

        Raises:
            ValueError: energies are missing, there are too few structures, or the model has no linear last layer.

        Example:
            >>> from ase.build import molecule
            >>> from lie_sim.calculators import LieTransformerCalculator
            >>> from lie_sim.models import AtomicPotential
            >>> calculator = LieTransformerCalculator(AtomicPotential.default(elements=(1, 8)))
            >>> systems = [molecule("H2O") for _ in range(40)]
            >>> for seed, atoms in enumerate(systems):
            ...     atoms.rattle(0.05, seed=seed)
            ...     atoms.info["REF_energy"] = calculator.evaluate(atoms)["energy"] + 0.01 * (-1) ** seed
            >>> found = Calibration.fit(calculator, systems)
            >>> found.source, found.coverage, found.has_forces
            ('last_layer', 0.9, False)
        """
        from lie_sim.calculators.calibrate import fitted

        return fitted(
            calculator,
            held_out,
            coverage=coverage,
            known=known,
            forces=forces,
            most_with_forces=most_with_forces,
            ridge=ridge,
            seed=seed,
        )

    def save(self, path: str | Path) -> Path:
        """Write to a file, or into the folder of a model, where the calculator finds it by itself.

        Returns:
            The file.
        """
        file = _file(path)
        facts = {name: value for name, value in asdict(self).items() if name != "factor"}
        save_tensors(file, {} if self.factor is None else {"factor": self.factor}, facts, kind=_KIND)
        return file

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what :meth:`save` wrote, from the file or the folder.

        Raises:
            DataError: the file is missing, damaged, or something else.
        """
        file = _file(path)
        tensors, facts = load_tensors(file, kind=_KIND)
        facts.pop("digest")
        expected = {field.name for field in fields(cls)} - {"factor"}
        if set(facts) != expected or facts["source"] not in SOURCES:
            raise DataError(f"{file} holds no calibration that this version of lie_sim reads: fit it again")
        return cls(**{**facts, "models": tuple(facts["models"])}, factor=tensors.get("factor"))

    def require_models(self, models: Sequence[str]) -> None:
        """Refuse other models than those that were calibrated, in any order.

        Raises:
            ValueError: the fingerprints differ.
        """
        if sorted(models) != sorted(self.models):
            raise ValueError(
                f"this calibration is for {len(self.models)} model(s) {_short(self.models)}, the calculator has "
                f"{len(models)}: {_short(models)}; fit another one with Calibration.fit"
            )


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def _short(models: Sequence[str]) -> str:
    return ", ".join(each[:12] + "…" for each in models)


def stored_beside(model: Path) -> Calibration | None:
    """The calibration in the folder of a model; None if there is none."""
    return Calibration.load(model) if (model / FILE_NAME).is_file() else None
