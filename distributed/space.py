"""What a search may vary: options of an experiment by dotted name, each with the values it may take.

    training.learning_rate = log:1e-4,1e-2        log-uniform from 1e-4 to 1e-2
    training.weight_decay  = uniform:0,0.1        uniform
    model.num_layers       = int:1,4              a whole number from 1 to 4
    model.width            = choice:32,64,128     one of these

Draw i is a function of the seed and i: a search that goes on, or is made longer, tries the same values.
"""

from __future__ import annotations

import copy
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lie_sim.data.dataset import split_seed
from lie_sim.errors import ConfigError

_RANGES = ("log", "uniform", "int")


@dataclass(frozen=True)
class Dimension:
    """The values of one option.

    Args:
        kind: ``"log"``, ``"uniform"``, ``"int"`` or ``"choice"``.
        values: smallest and largest, or the choices.

    Raises:
        ConfigError: there is no such kind, or the values are none for it.
    """

    kind: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.kind == "choice":
            if not self.values:
                raise ConfigError("choice: needs at least one value, such as choice:32,64")
            return
        if self.kind not in _RANGES:
            raise ConfigError(
                f"values are log:, uniform:, int: or choice:, such as log:1e-4,1e-2; got {self.kind!r}"
            )
        numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in self.values)
        if len(self.values) != 2 or not numbers or not self.values[0] < self.values[1]:
            raise ConfigError(f"{self.kind}: needs a smaller and a larger number, got {self.values}")
        if self.kind == "log" and self.values[0] <= 0:
            raise ConfigError(f"log: needs positive numbers, got {self.values}")
        if self.kind == "int" and not all(isinstance(x, int) for x in self.values):
            raise ConfigError(f"int: needs whole numbers, got {self.values}")

    @classmethod
    def parse(cls, text: str) -> Dimension:
        """Read ``kind:value,value``.

        Example:
            >>> Dimension.parse("choice:32,64,relu").values
            (32, 64, 'relu')
        """
        kind, _, values = text.partition(":")
        return cls(kind, tuple(_value(word) for word in values.split(",") if word))

    def draw(self, generator: np.random.Generator) -> Any:
        """One of the values."""
        if self.kind == "choice":
            return self.values[int(generator.integers(len(self.values)))]
        low, high = self.values
        if self.kind == "int":
            return int(generator.integers(low, high + 1))
        if self.kind == "uniform":
            return float(generator.uniform(low, high))
        drawn = math.exp(generator.uniform(math.log(low), math.log(high)))
        return float(min(max(drawn, low), high))


def parse_space(space: Mapping[str, str | Dimension]) -> dict[str, Dimension]:
    """The dimensions of a search, sorted by name.

    Raises:
        ConfigError: there is none, or one cannot be read.

    Example:
        >>> list(parse_space({"model.width": "choice:32,64", "training.learning_rate": "log:1e-4,1e-2"}))
        ['model.width', 'training.learning_rate']
    """
    if not space:
        raise ConfigError("a search needs something to vary, such as training.learning_rate = log:1e-4,1e-2")
    found = {}
    for name, values in sorted(space.items()):
        try:
            found[name] = values if isinstance(values, Dimension) else Dimension.parse(values)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
    return found


def draw(space: Mapping[str, Dimension], seed: int, number: int) -> dict[str, Any]:
    """Values of trial ``number``.

    Example:
        >>> draw({"model.width": Dimension("choice", (32,))}, seed=0, number=3)
        {'model.width': 32}
    """
    return {
        name: dimension.draw(np.random.default_rng(split_seed(seed, f"tune/{number}/{name}")))
        for name, dimension in space.items()
    }


def with_values(plain: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with other values at dotted names.

    Example:
        >>> with_values({"model": {"width": 8}}, {"model.width": 32})
        {'model': {'width': 32}}
    """
    changed = copy.deepcopy(dict(plain))
    for name, value in values.items():
        *tables, key = name.split(".")
        table = changed
        for each in tables:
            table = table.setdefault(each, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: {each} is a value, not a table of options")
        table[key] = value
    return changed


def _value(word: str) -> Any:
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except tomllib.TOMLDecodeError:
        return word
