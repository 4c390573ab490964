"""Frozen dataclasses to and from plain values (numbers, strings, lists, tables), with strict types.

What comes from a file is checked key by key against the annotations of the dataclass: an unknown key or a
value of another type is an error that names the key. Integers are accepted where a float is asked for, and
nothing else is converted; ``true`` is not a number. Where one of several dataclasses may stand, it is the one
that knows most of the keys, and the first of equals.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lie_sim.errors import ConfigError

T = TypeVar("T")
_SCALARS = (bool, int, float, str)


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries of plain values; fields that are None are left out.

    Example:
        >>> from lie_sim.training.config import TrainingConfig
        >>> to_plain(TrainingConfig(batch_size=7))["batch_size"]
        7
    """
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"a dataclass instance is needed, got {type(config).__name__}")
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def with_defaults(values: Mapping[str, Any], like: Any) -> dict[str, Any]:
    """The plain values, and the defaults of a dataclass where one is missing, also in the tables inside it.

    So what an earlier version wrote can be compared with what has options that came later.

    Args:
        values: what :func:`to_plain` gives, of this or an earlier version.
        like: the dataclass instance that says what the options are.

    Example:
        >>> from lie_sim.training.config import TrainingConfig
        >>> with_defaults({"max_steps": 5}, TrainingConfig())["batch_size"]
        100
    """
    found = dict(values)
    for field in fields(like):
        mine, there = getattr(like, field.name), values.get(field.name, _default(field))
        if is_dataclass(mine) and isinstance(there, Mapping):
            found[field.name] = with_defaults(there, mine)
        elif there is not None and there is not MISSING:
            found[field.name] = _plain(there)
    return found


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else _plain(field.default_factory())


def from_plain(cls: type[T], values: Any, *, source: str, prefix: str = "") -> T:
    """Make a dataclass from plain values; missing keys take their default.

    Args:
        cls: the dataclass.
        values: what the file holds.
        source: where the values come from, for messages.
        prefix: dotted path of this table inside the source, for messages.

    Raises:
        ConfigError: a key is unknown or missing, a value has another type, or the dataclass refuses it.

    Example:
        >>> from lie_sim.training.config import TrainingConfig
        >>> from_plain(TrainingConfig, {"max_steps": 5}, source="example").max_steps
        5
    """
    if not is_dataclass(cls):
        raise TypeError(f"a dataclass is needed, got {cls!r}")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {prefix or 'the top level'} must be a table, got {_name(values)}")
    known = [field.name for field in fields(cls) if field.init]
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        names = ", ".join(_join(prefix, key) for key in unknown)
        raise ConfigError(f"{source}: unknown key {names}; allowed keys are {', '.join(known)}")
    hints = get_type_hints(cls)
    read = {key: _read(hints[key], item, source, _join(prefix, key)) for key, item in values.items()}
    try:
        return cls(**read)
    except (TypeError, ValueError, ConfigError) as error:
        where = f" [{prefix}]" if prefix else ""
        raise ConfigError(f"{source}{where}: {error}") from error


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _name(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]


def _read(kind: Any, value: Any, source: str, key: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return from_plain(kind, value, source=source, prefix=key)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, source, key)
    if kind in _SCALARS:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
    elif origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise ConfigError(
            f"{source}: {key} must be one of {', '.join(map(repr, arguments))}, got {_name(value)}"
        )
    elif origin in (tuple, list) and isinstance(value, list | tuple):
        return _read_sequence(origin, arguments, value, source, key)
    elif (origin or kind) in (dict, Mapping) and isinstance(value, Mapping):
        item = arguments[1] if arguments else Any
        return {str(name): _read(item, entry, source, _join(key, str(name))) for name, entry in value.items()}
    elif kind is type(None) and value is None:
        return None
    raise ConfigError(f"{source}: {key} must be {_expected(kind)}, got {_name(value)}")


def _read_union(choices: tuple[Any, ...], value: Any, source: str, key: str) -> Any:
    tables = [choice for choice in choices if is_dataclass(choice)]
    if tables and isinstance(value, Mapping):
        fits = max(tables, key=lambda table: sum(field.name in value for field in fields(table)))
        return _read(fits, value, source, key)
    for choice in choices:
        try:
            return _read(choice, value, source, key)
        except ConfigError:
            continue
    expected = " or ".join(_expected(choice) for choice in choices if choice is not type(None))
    raise ConfigError(f"{source}: {key} must be {expected}, got {_name(value)}")


def _read_sequence(origin: Any, kinds: tuple[Any, ...], value: Any, source: str, key: str) -> Any:
    if origin is tuple and Ellipsis not in kinds and len(value) != len(kinds):
        raise ConfigError(f"{source}: {key} must have {len(kinds)} entries, got {len(value)}")
    each = [kinds[0]] * len(value) if origin is list or Ellipsis in kinds else list(kinds)
    return origin(
        _read(kind, item, source, f"{key}[{i}]")
        for i, (kind, item) in enumerate(zip(each, value, strict=True))
    )


def _expected(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
