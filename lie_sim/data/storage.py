"""Tensors on disk: one safetensors file with a JSON header, written atomically, checked when read.

The header holds the caller's metadata, a format number and the SHA-256 of every tensor's name, dtype, shape
and bytes. A file appears under its final name only when it is complete and flushed, and a damaged one is
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from safetensors.torch import save_file
from torch import Tensor

from lie_sim.errors import DataError
from lie_sim.files import replacing

HEADER = "lie_sim"
"""The entry of a file's header that holds ours."""
_FORMAT = 1


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, as 64 hexadecimal digits.

    Example:
        >>> tensors_digest({"a": torch.zeros(2)})[:8] == tensors_digest({"a": torch.zeros(3)})[:8]
        False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, kind: str) -> str:
    """Write tensors and metadata to ``path`` atomically.

    Args:
        path: destination; its folder is created.
        tensors: names to tensors; moved to the CPU.
        metadata: anything JSON can hold.
        kind: what the file is, such as ``"trajectories"``; :func:`load_tensors` checks it.

    Returns:
        The digest of the tensors.
    """
    contiguous, digest, header = _with_header(tensors, metadata, kind)
    with replacing(path) as temporary:
        save_file(contiguous, str(temporary), metadata=header)
    return digest


def dump_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, kind: str) -> bytes:
    r"""What :func:`save_tensors` would write; the same tensors and metadata give the same bytes.

    Args:
        tensors: names to tensors.
        metadata: anything JSON can hold.
        kind: what the file is; :func:`load_tensors` checks it.

    Example:
        >>> dump_tensors({"a": torch.zeros(2)}, {"b": 1}, kind="example")[-8:]
        b'\x00\x00\x00\x00\x00\x00\x00\x00'
    """
    contiguous, _, header = _with_header(_apart(tensors), metadata, kind)
    return serialised(contiguous, metadata=header)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, which safetensors would refuse."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def _with_header(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], kind: str
) -> tuple[dict[str, Tensor], str, dict[str, str]]:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digest = tensors_digest(contiguous)
    header = {"format": _FORMAT, "kind": kind, "digest": digest, "metadata": dict(metadata)}
    return contiguous, digest, {HEADER: json.dumps(header, sort_keys=True)}


def load_tensors(path: Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Returns:
        The tensors, and the metadata with the digest added under ``"digest"``.

    Raises:
        DataError: the file is missing, truncated, altered, or of another kind or format.
    """
    if not path.is_file():
        raise DataError(f"no {kind} file at {path}; generate it, or correct the path")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a complete safetensors file ({error}); generate it again") from error
    facts = parse_header(path, header, kind)
    found = tensors_digest(tensors)
    if found != facts["digest"]:
        raise DataError(
            f"{path} was altered after it was written: its digest should be {facts['digest'][:16]}…, "
            f"but the content has {found[:16]}…; generate it again"
        )
    return tensors, {**facts["metadata"], "digest": found}


def parse_header(path: Path, header: str | None, kind: str) -> dict[str, Any]:
    """Format, kind, digest and metadata of a file, checked.

    Args:
        path: for messages.
        header: the entry ``lie_sim`` of the file's header.
        kind: what the file should be.

    Raises:
        DataError: it is damaged, or of another kind or format.
    """
    if header is None:
        raise DataError(f"{path} has no lie_sim header: it was not written by lie_sim")
    try:
        facts: dict[str, Any] = json.loads(header)
        found_format, found_kind, _, _ = (facts[key] for key in ("format", "kind", "digest", "metadata"))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} has a damaged lie_sim header ({error}); generate it again") from error
    if found_format != _FORMAT:
        raise DataError(f"{path} has format {found_format}, this version of lie_sim reads format {_FORMAT}")
    if found_kind != kind:
        raise DataError(f"{path} holds {found_kind}, but {kind} was expected")
    return facts
