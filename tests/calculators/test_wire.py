"""What goes over the network arrives to the bit, and what is no message of ours is refused with the place."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import InputError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lie_sim.calculators.wire import (
    Facts,
    decode_answer,
    decode_facts,
    decode_refusal,
    decode_request,
    encode_answer,
    encode_facts,
    encode_refusal,
    encode_request,
    largest_request,
)
from lie_sim.errors import WireError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = 100


@st.composite
def systems(draw: st.DrawFn) -> Atoms:
    numbers = draw(st.lists(st.integers(1, 118), min_size=1, max_size=5))
    return Atoms(
        numbers,
        draw(arrays(float, (len(numbers), 3), elements=FINITE)),
        cell=draw(arrays(float, (3, 3), elements=FINITE)),
        pbc=draw(st.lists(st.booleans(), min_size=3, max_size=3)),
        info={"charge": draw(FINITE)},
    )


@given(systems())
def test_a_system_arrives_to_the_bit(atoms: Atoms) -> None:
    atoms.info["comment"] = "stays at home"
    found = decode_request(encode_request(atoms, ["energy"], inputs=["charge", "spin"]), max_atoms=LARGEST)
    assert found.properties == ("energy",)
    assert found.atoms.numbers.tolist() == atoms.numbers.tolist()
    assert found.atoms.pbc.tolist() == atoms.pbc.tolist()
    assert found.atoms.positions.tobytes() == atoms.positions.tobytes()
    assert np.asarray(found.atoms.cell).tobytes() == np.asarray(atoms.cell).tobytes()
    assert list(found.atoms.info) == ["charge"]
    assert struct.pack("d", found.atoms.info["charge"]) == struct.pack("d", atoms.info["charge"])


@given(st.floats(), arrays(float, array_shapes(max_dims=4, min_side=0), elements=st.floats()))
def test_results_arrive_to_the_bit(number: float, array: np.ndarray) -> None:
    model, found = decode_answer(encode_answer({"energy": number, "forces": array}, model="ab"))
    assert model == "ab"
    assert isinstance(found["energy"], float)
    assert np.float64(found["energy"]).tobytes() == np.float64(number).tobytes()
    assert found["forces"].shape == array.shape
    assert found["forces"].tobytes() == array.tobytes()


JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))


@given(st.binary(max_size=50) | JUNK.map(lambda value: json.dumps(value).encode()))
def test_noise_is_refused(content: bytes) -> None:
    for decode in (
        decode_answer,
        decode_facts,
        decode_refusal,
        lambda x: decode_request(x, max_atoms=LARGEST),
    ):
        with pytest.raises(WireError):
            decode(content)


@given(
    st.sampled_from(["properties", "numbers", "positions", "cell", "pbc", "info"]),
    JUNK | st.dictionaries(st.sampled_from(["shape", "data"]), JUNK),
)
def test_a_wrong_entry_is_refused_or_read(name: str, value: Any) -> None:
    message = json.loads(encode_request(Atoms("H"), ["energy"]))
    message[name] = value
    try:
        decode_request(json.dumps(message).encode(), max_atoms=LARGEST)
    except (WireError, InputError) as error:
        assert str(error)  # noqa: PT017 - any other error is a hole


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("lie_sim", 2, 'expected an object with "lie_sim": 1'),
        ("properties", "energy", "properties: expected a list of strings, got 'energy'"),
        ("numbers", [1.5], r"numbers: expected a list of atomic numbers, got \[1.5\]"),
        (
            "positions",
            {"shape": [2, 3], "data": "AAAA"},
            r"positions: expected float64 of the shape \[2, 3\]",
        ),
        ("positions", {"shape": [0, 10**30], "data": ""}, "positions: expected float64"),
        ("positions", {"shape": [-1], "data": ""}, "positions: expected a shape of at most 8 whole numbers"),
        ("cell", {"shape": [0], "data": ""}, r"cell: expected the shape \(3, 3\), got \(0,\)"),
        ("cell", {"shape": [0], "data": "%"}, "cell: expected float64"),
        ("pbc", [1, 0, 0], r"pbc: expected three booleans, got \[1, 0, 0\]"),
        ("info", {"charge": 1}, "charge: expected an object with shape and data, got 1"),
    ],
)
def test_what_is_malformed_is_named(name: str, value: Any, says: str) -> None:
    message = json.loads(encode_request(Atoms("H"), ["energy"]))
    message[name] = value
    with pytest.raises(WireError, match=says):
        decode_request(json.dumps(message).encode(), max_atoms=LARGEST)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(WireError, match="expected JSON"):
        decode_request(b"[" * 100_000, max_atoms=LARGEST)


@pytest.mark.parametrize(
    ("atoms", "says"),
    [
        (Atoms("H2", [[0, 0, 0], [0, np.nan, 0]]), r"the positions of the atoms \[1\] are not finite"),
        (Atoms("H", cell=[np.inf, 1, 1]), "the cell is not finite"),
        (Atoms([0]), "there is no element 0"),
        (Atoms(f"H{LARGEST + 1}"), f"{LARGEST + 1} atoms are more than the {LARGEST}"),
        (Atoms("H", info={"charge": np.inf}), r"atoms.info\['charge'\] is not finite: inf"),
    ],
)
def test_systems_that_cannot_be_are_named(atoms: Atoms, says: str) -> None:
    content = encode_request(atoms, ["energy"], inputs=["charge"])
    with pytest.raises(InputError, match=says):
        decode_request(content, max_atoms=LARGEST)


def test_an_input_that_is_no_number_is_not_sent() -> None:
    with pytest.raises(InputError, match=r"atoms.info\['charge'\] must be a number, got 'two'"):
        encode_request(Atoms("H", info={"charge": "two"}), ["energy"], inputs=["charge"])


def test_the_largest_request_is_within_the_limit() -> None:
    atoms = Atoms(numbers=[118] * 1000, positions=np.full((1000, 3), -1 / 3), info={"charge": 1.0})
    assert len(encode_request(atoms, ["energy", "forces"], inputs=["charge"])) < largest_request(1000)


def test_facts_and_refusals_are_checked() -> None:
    facts = Facts("ab", ("energy", "forces"), ("charge",), 512)
    assert decode_facts(encode_facts(facts)) == facts
    assert decode_refusal(encode_refusal("token", "no")) == ("token", "no")
    with pytest.raises(WireError, match="max_atoms: expected a positive whole number, got 0"):
        decode_facts(encode_facts(Facts("ab", (), (), 0)))
    with pytest.raises(WireError, match="a refusal of a known kind"):
        decode_refusal(encode_refusal("other", "no"))
