"""The model that a run goes on from: found by name, fitting the options, and kept with the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lie_sim.checkpoint import load_model, save_model
from lie_sim.errors import ConfigError
from lie_sim.experiments.model_choice import network_options
from lie_sim.models import AtomicPotential, model_class_of

START = "start"
"""Folder in the run directory with the model as it was, so that a run goes on without it."""


def start_model(name: str, options: Any, usual: Any) -> AtomicPotential:
    """A potential in a run directory or folder, or a shipped one.

    Args:
        name: where it is.
        options: the network that the run asks for.
        usual: the network that it asks for if nobody has said another.

    Raises:
        ConfigError: it is no potential of atoms, or another network was asked for.
    """
    folder = Path(name)
    found = load_model(folder / "model" if (folder / "model" / "model.json").is_file() else name)
    if not isinstance(found, AtomicPotential):
        raise ConfigError(f"start_from: {name} is a {type(found).__name__}, not a potential of atoms")
    architecture = model_class_of(options).name
    if found.config.architecture != architecture:
        raise ConfigError(
            f"start_from: {name} is of the architecture {found.config.architecture!r}, not {architecture!r}: "
            f"add --model {found.config.architecture}"
        )
    if _without_scale(options) not in map(_without_scale, (usual, found.network.config)):
        raise ConfigError(f"start_from: the network is that of {name}; leave the options of the model away")
    return found


def _without_scale(options: Any) -> dict[str, Any]:
    return network_options(options) | {"energy_scale": None}


def keep_start(potential: AtomicPotential | None, folder: Path) -> None:
    """Write the model into a run directory, or remove what an earlier run has left there."""
    if potential is not None:
        save_model(potential, folder / START)
    elif (folder / START / "model.json").is_file():
        shutil.rmtree(folder / START)


def kept_start(folder: Path) -> AtomicPotential | None:
    """What :func:`keep_start` wrote, if there is any."""
    path = folder / START
    return load_model(path) if path.is_dir() else None
