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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

import lie_sim
from lie_sim.descriptions import DTYPES, Model, build_described, check_types, describe_model
from lie_sim.errors import CheckpointError
from lie_sim.files import write_atomically
from lie_sim.shipped import resolve_model

FORMAT = 2  # 1: soft frames did not see source_weight="masses"
_MANIFEST = "model.json"
_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors")
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
        >>> from lie_sim import Hamiltonian, LieTransformer
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
        model = build_described(manifest, folder / _MANIFEST).to(DTYPES[manifest["dtype"]])
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
    check_types(path, manifest, _TYPES)
    check_types(path, manifest["weights"], {"file": str, "bytes": int, "sha256": str})
    if manifest["digest"] != _digest(manifest):
        raise CheckpointError(f"{path} was altered after it was written: its digest does not fit its content")
    return manifest


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
