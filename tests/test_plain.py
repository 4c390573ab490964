"""Dataclasses from plain values: the types of the annotations, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from lie_sim.errors import ConfigError
from lie_sim.plain import from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    numbers: tuple[float, ...] = (1.0, 2.0)
    pair: tuple[int, str] = (1, "a")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    choice: Literal["a", "b"] = "a"
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    flag: bool = False

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name must not be bad")


@dataclass(frozen=True)
class Other:
    numbers: tuple[float, ...] = ()
    size: int = 3


@dataclass(frozen=True)
class Either:
    part: Inner | Other = Inner()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, Inner()),
        ({"numbers": [3.0]}, Inner((3.0,))),
        ({"size": 4}, Other(size=4)),
        ({"numbers": [3.0], "size": 4}, Other((3.0,), 4)),
    ],
)
def test_of_several_dataclasses_it_is_the_one_that_knows_most_keys(
    table: dict[str, Any], expected: Any
) -> None:
    assert from_plain(Either, {"part": table}, source="test") == Either(expected)
    assert from_plain(Either, to_plain(Either(expected)), source="test") == Either(expected)


def test_a_mistake_in_one_of_several_is_told_of_that_one() -> None:
    with pytest.raises(ConfigError, match=r"test: part\.size must be int, got str 'x'"):
        from_plain(Either, {"part": {"size": "x"}}, source="test")


def test_round_trip() -> None:
    value = Outer("x", Inner((3.0,), (2, "b")), "b", options={"k": [1, {"z": 2}]}, flag=True)
    plain = to_plain(value)
    assert "limit" not in plain
    assert from_plain(Outer, plain, source="test") == value


def test_integers_become_floats_and_nothing_else() -> None:
    numbers = from_plain(Inner, {"numbers": [1, 2.5]}, source="test").numbers
    assert numbers == (1.0, 2.5)
    assert [type(number) for number in numbers] == [float, float]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "nmae": 1}, "unknown key nmae; allowed keys are name, inner, choice, limit"),
        ({"name": "x", "inner": {"number": 1}}, r"unknown key inner\.number; allowed keys are numbers, pair"),
        ({"name": 1}, "name must be str, got int 1"),
        ({}, "name"),
        ({"name": "x", "inner": 3}, "inner must be a table"),
        ({"name": "x", "inner": {"numbers": [1, True]}}, r"inner\.numbers\[1\] must be float, got bool"),
        ({"name": "x", "inner": {"pair": [1]}}, "must have 2 entries, got 1"),
        ({"name": "x", "choice": "c"}, "choice must be one of 'a', 'b', got str 'c'"),
        ({"name": "x", "limit": 1.5}, "limit must be int, got float 1.5"),
        ({"name": "x", "flag": 1}, "flag must be bool"),
        ({"name": "bad"}, "name must not be bad"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml.*" + message):
        from_plain(Outer, values, source="run.toml")
