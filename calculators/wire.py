"""Structures and results between a calculator and a server, as JSON; numbers arrive as they were, to the bit.

    request   {"lie_sim": 1, "properties": ["energy"], "numbers": [8, 1, 1], "positions": A, "cell": A,
               "pbc": [false, false, false], "info": {"charge": A}}
    answer    {"lie_sim": 1, "model": digest, "results": {"energy": A}}
    refusal   {"lie_sim": 1, "error": {"kind": "input", "message": …}}
    facts     {"lie_sim": 1, "model": digest, "properties": […], "inputs": […], "max_atoms": 512}

    A = {"shape": [3, 3], "data": base64 of float64, little-endian, row by row}

Nothing is executed that arrives. Units are ASE's.

Shape letters: N atoms.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import InputError
from ase.data import chemical_symbols

from lie_sim.errors import WireError
from lie_sim.totals import total_of

VERSION = 1
STATUS = {
    "format": 400,
    "token": 401,
    "method": 405,
    "size": 413,
    "input": 422,
    "property": 422,
    "internal": 500,
}
"""Kind of a refusal to its HTTP status."""
LARGEST_RANK = 8
"""Axes of an array."""
_PER_ATOM, _REST = 64, 16384
"""Bytes of a request for an atom (24 bytes as base64, its number), and for everything else."""


@dataclass(frozen=True)
class Request:
    """What is asked of a model.

    Args:
        atoms: the system, with its global inputs in ``info``.
        properties: what is wanted.
    """

    atoms: Atoms
    properties: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What a server says of itself.

    Args:
        model: digest of the model.
        properties: that it gives.
        inputs: entries of ``atoms.info`` that it reads.
        max_atoms: of a system.
    """

    model: str
    properties: tuple[str, ...]
    inputs: tuple[str, ...]
    max_atoms: int


def largest_request(max_atoms: int) -> int:
    """Bytes of a request for so many atoms, at most."""
    return _REST + _PER_ATOM * max_atoms


def encode_request(atoms: Atoms, properties: Sequence[str], *, inputs: Sequence[str] = ()) -> bytes:
    """A request.

    Args:
        atoms: the system.
        properties: what is wanted of it.
        inputs: global inputs that the model reads (:mod:`lie_sim.totals`).

    Raises:
        InputError: one of them is no number, or the system says two charges.
    """
    return _encoded(
        properties=list(properties),
        numbers=atoms.numbers.tolist(),
        positions=_array(atoms.positions),
        cell=_array(np.asarray(atoms.cell)),
        pbc=atoms.pbc.tolist(),
        info={name: _array(_number(atoms, name)) for name in inputs if _total(atoms, name) is not None},
    )


def decode_request(content: bytes, *, max_atoms: int) -> Request:
    """Read a request.

    Args:
        content: from somebody who is not trusted.
        max_atoms: of a system.

    Raises:
        WireError: it is no request.
        InputError: it is one, of a system that cannot be.

    Example:
        >>> asked = encode_request(Atoms("OH", [[0, 0, 0], [0, 0, 1]]), ["energy"])
        >>> decode_request(asked, max_atoms=2)
        Request(atoms=Atoms(symbols='OH', pbc=False), properties=('energy',))
    """
    found = _decoded(content)
    properties = _strings(found, "properties")
    numbers = _elements(found.get("numbers"), max_atoms)
    positions = _shaped(found, "positions", (len(numbers), 3))
    cell = _shaped(found, "cell", (3, 3))
    pbc, info = found.get("pbc"), found.get("info")
    if not isinstance(pbc, list) or [type(each) for each in pbc] != [bool] * 3:
        raise WireError(f"pbc: expected three booleans, got {_short(pbc)}")
    if not isinstance(info, dict):
        raise WireError(f"info: expected an object, got {_short(info)}")
    values = {name: float(_shaped(info, name, ())) for name in info}
    _require_finite(positions, cell, values)
    return Request(Atoms(numbers, positions, cell=cell, pbc=pbc, info=values), properties)


def encode_answer(results: Mapping[str, Any], *, model: str) -> bytes:
    """An answer: results as the calculator has them, numbers or arrays."""
    return _encoded(model=model, results={name: _array(value) for name, value in results.items()})


def decode_answer(content: bytes) -> tuple[str, dict[str, Any]]:
    """Digest of the model, and results: numbers and arrays of float64.

    Raises:
        WireError: it is no answer.

    Example:
        >>> decode_answer(encode_answer({"energy": 0.1, "dipole": np.zeros(3)}, model="ab"))
        ('ab', {'energy': 0.1, 'dipole': array([0., 0., 0.])})
    """
    found = _decoded(content)
    results = found.get("results")
    if not isinstance(results, dict):
        raise WireError(f"results: expected an object, got {_short(results)}")
    arrays = {name: _numbers(name, value) for name, value in results.items()}
    return _string(found, "model"), {name: x if x.ndim else float(x) for name, x in arrays.items()}


def encode_refusal(kind: str, message: str) -> bytes:
    """Why there is no answer; ``kind`` is a key of ``STATUS``."""
    return _encoded(error={"kind": kind, "message": message})


def decode_refusal(content: bytes) -> tuple[str, str]:
    """Kind and message.

    Raises:
        WireError: it does not come from a server of lie_sim.

    Example:
        >>> decode_refusal(encode_refusal("size", "too many atoms"))
        ('size', 'too many atoms')
    """
    error = _decoded(content).get("error")
    if not isinstance(error, dict) or error.get("kind") not in STATUS:
        raise WireError(f"error: expected a refusal of a known kind, got {_short(error)}")
    return error["kind"], _string(error, "message")


def encode_facts(facts: Facts) -> bytes:
    """What a server says of itself."""
    return _encoded(**vars(facts))


def decode_facts(content: bytes) -> Facts:
    """Read what a server says of itself.

    Raises:
        WireError: it does not come from a server of lie_sim.

    Example:
        >>> decode_facts(encode_facts(Facts("ab", ("energy",), (), 9)))
        Facts(model='ab', properties=('energy',), inputs=(), max_atoms=9)
    """
    found = _decoded(content)
    max_atoms = found.get("max_atoms")
    if type(max_atoms) is not int or max_atoms < 1:
        raise WireError(f"max_atoms: expected a positive whole number, got {_short(max_atoms)}")
    return Facts(_string(found, "model"), _strings(found, "properties"), _strings(found, "inputs"), max_atoms)


def _encoded(**entries: Any) -> bytes:
    return json.dumps({"lie_sim": VERSION, **entries}, separators=(",", ":")).encode()


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WireError(f"expected JSON, got {_short(content)}: {error}") from error
    if not isinstance(found, dict) or found.get("lie_sim") != VERSION:
        raise WireError(f'expected an object with "lie_sim": {VERSION}, got {_short(content)}')
    return found


def _array(value: Any) -> dict[str, Any]:
    x = np.asarray(value, dtype="<f8")
    return {"shape": list(x.shape), "data": base64.b64encode(x.tobytes()).decode("ascii")}


def _numbers(name: str, value: Any) -> np.ndarray:
    """An array of float64, of the shape that it says."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise WireError(f"{name}: expected an object with shape and data, got {_short(value)}")
    shape = value.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > LARGEST_RANK
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise WireError(
            f"{name}: expected a shape of at most {LARGEST_RANK} whole numbers, got {_short(shape)}"
        )
    try:
        raw = base64.b64decode(value["data"], validate=True)
        return np.frombuffer(raw, dtype="<f8").astype(float).reshape(shape)
    except (ValueError, OverflowError) as error:  # no base64, or of another size
        raise WireError(
            f"{name}: expected float64 of the shape {_short(shape)} as base64: {error}"
        ) from error


def _shaped(found: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    x = _numbers(name, found.get(name))
    if x.shape != shape:
        raise WireError(f"{name}: expected the shape {shape}, got {x.shape}")
    return x


def _elements(numbers: Any, max_atoms: int) -> list[int]:
    if not isinstance(numbers, list) or not all(type(z) is int for z in numbers):
        raise WireError(f"numbers: expected a list of atomic numbers, got {_short(numbers)}")
    if len(numbers) > max_atoms:
        raise InputError(f"{len(numbers)} atoms are more than the {max_atoms} that are computed here")
    unknown = sorted({z for z in numbers if not 0 < z < len(chemical_symbols)})
    if unknown:
        raise InputError(f"there is no element {', '.join(map(str, unknown[:5]))}")
    return numbers


def _require_finite(positions: np.ndarray, cell: np.ndarray, values: Mapping[str, float]) -> None:
    bad = np.flatnonzero(~np.isfinite(positions).all(1))
    if len(bad):
        raise InputError(f"the positions of the atoms {bad[:5].tolist()} are not finite: {positions[bad[0]]}")
    if not np.isfinite(cell).all():
        raise InputError(f"the cell is not finite: {cell.tolist()}")
    wrong = sorted(name for name, value in values.items() if not math.isfinite(value))
    if wrong:
        raise InputError(f"atoms.info[{wrong[0]!r}] is not finite: {values[wrong[0]]}")


def _number(atoms: Atoms, name: str) -> float:
    value = _total(atoms, name)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"atoms.info[{name!r}] must be a number, got {value!r}") from error


def _total(atoms: Atoms, name: str) -> Any:
    try:
        return total_of(atoms, name)
    except ValueError as error:
        raise InputError(str(error)) from error


def _string(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise WireError(f"{name}: expected a string, got {_short(value)}")
    return value


def _strings(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise WireError(f"{name}: expected a list of strings, got {_short(value)}")
    return tuple(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
