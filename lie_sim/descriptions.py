"""What a model is in plain values: kind, architecture, configuration and options; and the model made of them.

Weights apart, this is what ``model.json`` holds (:mod:`lie_sim.checkpoint`) and what tells two models from each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lie_sim.driven import DrivenHamiltonian
from lie_sim.errors import CheckpointError, ConfigError
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.lifting import HaarLift
from lie_sim.models import (
    GraphClassifier,
    GraphClassifierConfig,
    LieTransformerClassifier,
    LieTransformerConfig,
    SE3TransformerConfig,
    SE3TransformerDynamics,
)
from lie_sim.models.base import EnergyModel, model_class, model_names
from lie_sim.plain import from_plain, to_plain
from lie_sim.time_encoding import build_time_map

Other = LieTransformerClassifier | GraphClassifier | SE3TransformerDynamics
Model = EnergyModel | Hamiltonian | Other
"""What can be saved."""

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class _Kind:
    """A model that is no energy: its architecture, classes, and the options beside its configuration."""

    architecture: str
    cls: type[Any]
    config: type[Any]
    options: Mapping[str, type]


_OTHERS = {
    "classifier": _Kind(
        "lie_transformer_classifier", LieTransformerClassifier, LieTransformerConfig, {"num_outputs": int}
    ),
    "graph_classifier": _Kind("graph_classifier", GraphClassifier, GraphClassifierConfig, {}),
    "dynamics": _Kind(
        "se3_transformer_dynamics", SE3TransformerDynamics, SE3TransformerConfig, {"velocity_scale": float}
    ),
}


def _require_the_class_that_loading_makes(model: Model, potential: EnergyModel | Other) -> None:
    """Refuse subclasses: loading would make their base class, which computes other numbers."""
    made: type | None = None
    if isinstance(potential, Other):
        made = _kind_of(potential)[1].cls
    elif potential.name in model_names():
        made = model_class(potential.name)
    pairs: list[tuple[type, type | None]] = [(type(potential), made)]
    if isinstance(model, DrivenHamiltonian):
        pairs.append((type(model), DrivenHamiltonian))
        for drive in model.drives:
            name = getattr(drive, "name", "")
            pairs.append((type(drive), model_class(name) if name in model_names() else None))
    elif isinstance(model, Hamiltonian):
        pairs.append((type(model), Hamiltonian))
    for given, loaded in pairs:
        if given is not loaded:
            raise TypeError(
                f"cannot save a {given.__qualname__}: it would be loaded as another class; give an energy model "
                "a name of its own with @register_model, and save a Hamiltonian as such"
            )


def _kind_of(model: Other) -> tuple[str, _Kind]:
    return next((name, kind) for name, kind in _OTHERS.items() if isinstance(model, kind.cls))


def describe_model(model: Model) -> dict[str, Any]:
    """What fixes a model apart from its weights, as plain values: kind, architecture and options."""
    options: dict[str, Any] = {}
    potential: EnergyModel | Other
    if isinstance(model, Hamiltonian):
        kind, potential = "hamiltonian", model.potential
        options = {"masses": model.masses, "num_attributes": model.num_attributes}
        if isinstance(model, DrivenHamiltonian):
            kind = "driven_hamiltonian"
            options |= {"drives": _described(model.drives), "time": model.time.name}
            options |= {"time_options": model.time.options()}
    elif isinstance(model, Other):
        kind, known = _kind_of(model)
        potential, options = model, {name: getattr(model, name) for name in known.options}
    elif isinstance(model, EnergyModel):
        kind, potential = "energy_model", model
    else:
        raise TypeError(
            f"cannot save a {type(model).__name__}: "
            "save an EnergyModel, a Hamiltonian, a classifier or an SE3TransformerDynamics"
        )
    _require_the_class_that_loading_makes(model, potential)
    config = to_plain(potential.config)
    seeds = {module.seed for module in model.modules() if isinstance(module, HaarLift)}
    if len(seeds) == 1 and "lift_seed" in config:  # the samples in use, also after resample()
        config["lift_seed"] = seeds.pop()
    architecture = _OTHERS[kind].architecture if kind in _OTHERS else potential.name
    return {
        "kind": kind,
        "architecture": architecture,
        "config": config,
        "options": options,
        "dtype": _dtype_name(model),
    }


def _described(drives: Iterable[Any]) -> list[dict[str, Any]]:
    """Architecture and configuration of each."""
    return [{"architecture": drive.name, "config": to_plain(drive.config)} for drive in drives]


def fingerprint(model: Model) -> str:
    """SHA-256 of what a model computes: architecture, configuration and weights; the same after a round trip to disk.

    Example:
        >>> from lie_sim import LieTransformer
        >>> model = LieTransformer.default(dim=3)
        >>> len(fingerprint(model)), fingerprint(model) == fingerprint(LieTransformer.default(dim=3))
        (64, False)
    """
    found = hashlib.sha256(json.dumps(describe_model(model), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(
            name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()


def _dtype_name(model: nn.Module) -> str:
    tensors = model.state_dict()
    if isinstance(model, DrivenHamiltonian):  # frequencies have all their digits in every model
        for name in ("time.log_begun", "time.shift"):
            tensors.pop(name)
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    names = [name for name, dtype in DTYPES.items() if found == {dtype}]
    if not names:
        raise ValueError(
            f"the tensors must share one dtype of {', '.join(DTYPES)}; found {sorted(map(str, found))}"
        )
    return names[0]


def check_types(path: Path, values: Mapping[str, Any], types: Mapping[str, type]) -> None:
    """Refuse values that are missing, unknown or of another type.

    Raises:
        CheckpointError: it names them.
    """
    missing, unknown = sorted(set(types) - set(values)), sorted(set(values) - set(types))
    if missing or unknown:
        raise CheckpointError(f"{path}: missing keys {missing}, unknown keys {unknown}")
    for key, kind in types.items():
        if type(values[key]) is not kind:
            raise CheckpointError(f"{path}: {key} must be {kind.__name__}, got {type(values[key]).__name__}")


def build_described(manifest: Mapping[str, Any], source: Path) -> Model:
    """The model that :func:`describe_model` described, with new weights, in its dtype.

    Args:
        manifest: the description, among other keys.
        source: the file that it was read from, for the messages.

    Raises:
        CheckpointError: it describes no model.
    """
    folder = source.parent
    kind, architecture, options = manifest["kind"], manifest["architecture"], manifest["options"]
    if kind not in ("energy_model", "hamiltonian", "driven_hamiltonian", *_OTHERS):
        raise CheckpointError(f"{folder}: unknown kind {kind[:80]!r}")
    if manifest["dtype"] not in DTYPES:
        raise CheckpointError(f"{folder}: unknown dtype {manifest['dtype'][:80]!r}")
    other = _OTHERS.get(kind)
    known = [other.architecture] if other else model_names()
    if architecture not in known:
        raise CheckpointError(
            f"{folder}: unknown architecture {architecture[:80]!r} for kind {kind!r}; "
            f"known are {', '.join(known)}. A model of your own must be imported before it is loaded"
        )
    config_class: type[Any] = other.config if other else model_class(architecture).Config
    try:
        config = from_plain(config_class, manifest["config"], source=f"{source} (config)")
        if other:
            check_types(source, options, other.options)
            found: Model = other.cls(config, **options)
            return found
        model = model_class(architecture)(config)
        if kind == "energy_model":
            check_types(source, options, {})
            return model
        types = {"masses": str, "num_attributes": int}
        if kind == "driven_hamiltonian":
            check_types(source, options, types | {"drives": list, "time": str, "time_options": dict})
            return _build_driven(source, model, options)
        check_types(source, options, types)
        return Hamiltonian(model, **options)
    except (ConfigError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the configuration does not make a model: {error}") from error


def _build_driven(source: Path, potential: EnergyModel, options: Mapping[str, Any]) -> DrivenHamiltonian:
    drives = []
    for described in options["drives"]:
        cls = model_class(described["architecture"])
        config: Any = from_plain(cls.Config, described["config"], source=f"{source} (drives)")
        drives.append(cls(config))
    time = build_time_map(options["time"], **options["time_options"])
    known = {name: options[name] for name in ("masses", "num_attributes")}
    return DrivenHamiltonian(potential, drives, time, **known)
