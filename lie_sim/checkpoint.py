"""Models on disk: a folder with ``model.json`` and one safetensors file; nothing in it is ever executed.

    model.json    format, kind, architecture, config, dtype, …, weights: {file, bytes, sha256}, digest
    weights-<first 16 digits of their SHA-256>.safetensors

``model.json`` is replaced last and names the weights by their content, so a folder that is overwritten holds
the old model or the new one at every moment. A writer removes the weights that the ``model.json`` it replaced
named, and no others; a reader whose weights are removed meanwhile begins again with the new ``model.json``.

``digest`` is the SHA-256 of the rest of ``model.json``: both digests find damage and careless edits; they are no
signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

import lie_sim
from lie_sim.driven import DrivenHamiltonian
from lie_sim.errors import CheckpointError, ConfigError
from lie_sim.files import write_atomically
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
from lie_sim.shipped import resolve_model
from lie_sim.time_encoding import build_time_map

Other = LieTransformerClassifier | GraphClassifier | SE3TransformerDynamics
Model = EnergyModel | Hamiltonian | Other
"""What can be saved."""

FORMAT = 2  # 1: soft frames did not see source_weight="masses"
_MANIFEST = "model.json"
_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors")
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_ATTEMPTS = 10
"""How often a reader begins again because the model was replaced meanwhile."""
_TYPES = {
    "format": int,
    "lie_sim": str,
    "kind": str,
    "architecture": str,
    "config": dict,
    "options": dict,
    "dtype": str,
    "weights": dict,
    "metadata": dict,
    "digest": str,
}


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


def save_model(model: Model, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model as the folder ``path``; an older model there is replaced in one step.

    Args:
        model: an :class:`EnergyModel`, a :class:`Hamiltonian` (particles bound to it are not saved), a
            :class:`LieTransformerClassifier`, :class:`GraphClassifier` or :class:`SE3TransformerDynamics`; its
            floating-point tensors must share one dtype.
        path: the folder.
        metadata: facts to keep with the model (units, data, training), anything JSON can hold.

    Raises:
        TypeError: the model is of another class, or the metadata is not JSON.
        ValueError: the dtypes are mixed.

    Example:
        >>> import tempfile
        >>> from lie_sim import LieTransformer
        >>> folder = tempfile.mkdtemp()
        >>> save_model(Hamiltonian(LieTransformer.default(dim=3)), folder, metadata={"unit": "eV"})
        >>> type(load_model(folder)).__name__, model_metadata(folder)
        ('Hamiltonian', {'unit': 'eV'})
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"a model is saved as a folder, but {folder} is a file")
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    content = save_safetensors(tensors, metadata={"format": "pt"})
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"weights-{sha256[:16]}.safetensors"
    manifest = {
        "format": FORMAT,
        "lie_sim": lie_sim.__version__,
        **describe_model(model),
        "weights": {"file": name, "bytes": len(content), "sha256": sha256},
        "metadata": dict(metadata or {}),
    }
    try:
        text = json.dumps({**manifest, "digest": _digest(manifest)}, indent=2, allow_nan=False)
    except ValueError as error:
        raise TypeError(
            f"metadata and configuration must be JSON, without NaN and infinity: {error}"
        ) from error
    write_atomically(folder / name, content)
    replaced = _weights_in_use(folder)
    write_atomically(folder / _MANIFEST, text.encode())
    if not (folder / name).exists():  # another writer replaced the same model meanwhile
        write_atomically(folder / name, content)
    if replaced is not None and replaced not in (name, _weights_in_use(folder)):
        (folder / replaced).unlink(missing_ok=True)


def _weights_in_use(folder: Path) -> str | None:
    """Name of the weights file of the model in a folder; None if no readable model is there."""
    try:
        name: str = _read_manifest(folder)["weights"]["file"]
    except CheckpointError:
        return None
    return name if _WEIGHTS.fullmatch(name) else None


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


def load_model(path: str | Path, *, device: torch.device | str = "cpu") -> Any:
    """Read what :func:`save_model` wrote: same class, same dtype, same numbers, in evaluation mode.

    Args:
        path: the folder, or the name of a shipped model (:func:`~lie_sim.shipped_models`).
        device: where to put the model.

    Raises:
        CheckpointError: the folder is incomplete, altered, of another version or architecture, or the tensors
            do not fit the configuration; the message says which.
    """
    folder = resolve_model(path)
    manifest, content = _read_one_save(folder)
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder}: {manifest['weights']['file']} is not a safetensors file: {error}"
        ) from error
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn and dropped
        model = _build(folder, manifest).to(_DTYPES[manifest["dtype"]])
    _check_tensors(folder, model, tensors)
    model.load_state_dict(tensors)
    return model.to(device).eval()


def model_metadata(path: str | Path) -> dict[str, Any]:
    """The ``metadata`` that was given to :func:`save_model`.

    Raises:
        CheckpointError: ``model.json`` is missing or damaged.
    """
    metadata: dict[str, Any] = _read_manifest(resolve_model(path))["metadata"]
    return metadata


def _dtype_name(model: nn.Module) -> str:
    tensors = model.state_dict()
    if isinstance(model, DrivenHamiltonian):  # frequencies have all their digits in every model
        for name in ("time.log_begun", "time.shift"):
            tensors.pop(name)
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    names = [name for name, dtype in _DTYPES.items() if found == {dtype}]
    if not names:
        raise ValueError(
            f"the tensors must share one dtype of {', '.join(_DTYPES)}; found {sorted(map(str, found))}"
        )
    return names[0]


def _digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"missing file: no {_MANIFEST} in {folder}; give the folder that save_model wrote"
            + (f", here {folder / 'model'}" if (folder / "model" / _MANIFEST).is_file() else "")
        )
    try:
        manifest = json.loads(path.read_bytes(), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is truncated or no JSON ({error}); restore it from a copy") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise CheckpointError(f"{path} has no integer format version: it was not written by save_model")
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format version {manifest['format']}; this lie_sim reads version {FORMAT}: "
            "use the lie_sim that wrote it"
        )
    _check_types(path, manifest, _TYPES)
    _check_types(path, manifest["weights"], {"file": str, "bytes": int, "sha256": str})
    if manifest["digest"] != _digest(manifest):
        raise CheckpointError(f"{path} was altered after it was written: its digest does not fit its content")
    return manifest


def _check_types(path: Path, values: dict[str, Any], types: dict[str, type]) -> None:
    missing, unknown = sorted(set(types) - set(values)), sorted(set(values) - set(types))
    if missing or unknown:
        raise CheckpointError(f"{path}: missing keys {missing}, unknown keys {unknown}")
    for key, kind in types.items():
        if type(values[key]) is not kind:
            raise CheckpointError(f"{path}: {key} must be {kind.__name__}, got {type(values[key]).__name__}")


def _read_one_save(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Manifest and weights that belong together, also while the folder is being overwritten."""
    manifest = _read_manifest(folder)
    for _ in range(_ATTEMPTS):
        try:
            return manifest, _read_weights(folder, manifest["weights"])
        except FileNotFoundError:
            before, manifest = manifest, _read_manifest(folder)
            if manifest == before:
                break
    raise CheckpointError(f"missing file: {folder / manifest['weights']['file']}, which {_MANIFEST} names")


def _read_weights(folder: Path, weights: dict[str, Any]) -> bytes:
    if not _WEIGHTS.fullmatch(weights["file"]):
        raise CheckpointError(
            f"{folder / _MANIFEST}: {weights['file'][:80]!r} is not a name of the form weights-….safetensors"
        )
    path = folder / weights["file"]
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; restore the file from a copy")
    size = path.stat().st_size
    if size != weights["bytes"]:
        what = "truncated" if size < weights["bytes"] else "altered"
        raise CheckpointError(f"{path} is {what}: it has {size} bytes, {_MANIFEST} says {weights['bytes']}")
    content: bytes = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights["sha256"]:
        raise CheckpointError(
            f"{path} was altered after it was written: its SHA-256 is not the one in {_MANIFEST}"
        )
    return content


def _build(folder: Path, manifest: dict[str, Any]) -> Model:
    kind, architecture, options = manifest["kind"], manifest["architecture"], manifest["options"]
    if kind not in ("energy_model", "hamiltonian", "driven_hamiltonian", *_OTHERS):
        raise CheckpointError(f"{folder}: unknown kind {kind[:80]!r}")
    if manifest["dtype"] not in _DTYPES:
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
        config = from_plain(config_class, manifest["config"], source=f"{folder / _MANIFEST} (config)")
        if other:
            _check_types(folder / _MANIFEST, options, dict(other.options))
            found: Model = other.cls(config, **options)
            return found
        model = model_class(architecture)(config)
        if kind == "energy_model":
            _check_types(folder / _MANIFEST, options, {})
            return model
        types = {"masses": str, "num_attributes": int}
        if kind == "driven_hamiltonian":
            _check_types(
                folder / _MANIFEST, options, types | {"drives": list, "time": str, "time_options": dict}
            )
            return _build_driven(folder, model, options)
        _check_types(folder / _MANIFEST, options, types)
        return Hamiltonian(model, **options)
    except (ConfigError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the configuration does not make a model: {error}") from error


def _build_driven(folder: Path, potential: EnergyModel, options: Mapping[str, Any]) -> DrivenHamiltonian:
    source = f"{folder / _MANIFEST} (drives)"
    drives = []
    for described in options["drives"]:
        cls = model_class(described["architecture"])
        config: Any = from_plain(cls.Config, described["config"], source=source)
        drives.append(cls(config))
    time = build_time_map(options["time"], **options["time_options"])
    known = {name: options[name] for name in ("masses", "num_attributes")}
    return DrivenHamiltonian(potential, drives, time, **known)


def _check_tensors(folder: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    expected = model.state_dict()
    missing, unexpected = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unexpected:
        raise CheckpointError(f"{folder}: tensors missing {missing[:5]}, unexpected {unexpected[:5]}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise CheckpointError(
                f"{folder}: tensor {name} must be {tuple(expected[name].shape)} {expected[name].dtype}, "
                f"got {tuple(tensor.shape)} {tensor.dtype}"
            )
