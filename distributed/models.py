"""What moves the systems of a run, as a worker finds it: an exact system by its options, a learned one as a file.

    {"kind": "system", "name": …, "options": …}     an exact system of lie_sim.systems
    {"kind": "model", "digest": …}                  a learned potential or Hamiltonian in the folder model/
    {"kind": "atoms", "digest": …}                  the same, of atoms: units of ASE, neighbours found as they move

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.checkpoint import load_model, save_model
from lie_sim.descriptions import describe_model, fingerprint
from lie_sim.errors import DataError
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import AtomicPotential
from lie_sim.models.base import EnergyModel
from lie_sim.systems import System, build_system, system_names

Moving = Hamiltonian | System
FOLDER = "model"


def as_moving(model: Any) -> Moving:
    """A Hamiltonian or an exact system, of whatever holds one.

    Args:
        model: a folder that :func:`~lie_sim.save_model` wrote, a potential, a Hamiltonian, an exact system, or a
            :class:`~lie_sim.calculators.LieTransformerCalculator` with a single model.

    Raises:
        TypeError: there is no energy in it.
        ValueError: it is an ensemble.
    """
    found = load_model(model) if isinstance(model, str | Path) else model
    if isinstance(found, LieTransformerCalculator):
        if len(found.potentials) > 1:
            raise ValueError("a trajectory follows one model, not the mean of an ensemble: give one of them")
        found = found.potentials[0]
    if isinstance(found, EnergyModel):
        found = Hamiltonian(found)
    if not isinstance(found, Hamiltonian | System):
        raise TypeError(
            "a run needs a potential, a Hamiltonian, a LieTransformerCalculator, an exact system, or the folder of a "
            f"saved model; got {type(found).__name__}"
        )
    return found


def description(moving: Moving) -> dict[str, Any]:
    """What the manifest says about it.

    Raises:
        TypeError: workers could not make it again.
    """
    if isinstance(moving, System):
        return {"kind": "system", "name": moving.name, "options": _rebuilt_options(moving)}
    describe_model(moving)  # explains what cannot be saved
    kind = "atoms" if moves_atoms(moving) else "model"
    return {"kind": kind, "digest": fingerprint(moving)}


def store_model(moving: Moving, folder: Path) -> None:
    """Write what :func:`load_moving` needs beside the description."""
    if isinstance(moving, Hamiltonian):
        save_model(moving, folder / FOLDER)


def load_moving(described: Mapping[str, Any], folder: Path, *, device: str = "cpu") -> Moving:
    """The Hamiltonian or system of a run.

    Raises:
        CheckpointError: the model is damaged.
        DataError: it is not the one that the manifest names, or it is not known here.
    """
    if described["kind"] == "system":
        if described["name"] not in system_names():
            raise DataError(
                f"the run is of the system {described['name']!r}, which is not known here: import the module that "
                f"registers it first; known are {', '.join(system_names())}"
            )
        return build_system(described["name"], **described["options"])
    model = load_model(folder / FOLDER, device=device)
    if fingerprint(model) != described["digest"]:
        raise DataError(
            f"{folder / FOLDER} holds another model than the manifest names: restore it from a copy"
        )
    moving: Hamiltonian = model.requires_grad_(False)
    return moving


def moves_atoms(moving: Moving) -> bool:
    """Whether it is a potential of atoms, whose units are ASE's."""
    return isinstance(moving, Hamiltonian) and isinstance(moving.potential, AtomicPotential)


def usual_method(moving: Moving) -> str:
    """Of atoms "leapfrog", which is velocity Verlet: one force a step; of others "pefrl", with four of them."""
    return "leapfrog" if moves_atoms(moving) else "pefrl"


def dtype_of(moving: Moving) -> torch.dtype | None:
    """In which a learned model computes; None for an exact system, which takes any."""
    if isinstance(moving, System):
        return None
    return next((x.dtype for x in moving.parameters() if x.is_floating_point()), None)


def _rebuilt_options(system: System) -> dict[str, Any]:
    options = system.options()
    if system.name not in system_names() or build_system(system.name, **options) != system:
        raise TypeError(
            f"workers could not make {type(system).__name__} again: register it with @register_system, with options "
            "that are plain values"
        )
    return options
