"""What a folder is of, in a TOML file beside it: the same call goes on there, another is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from lie_sim.errors import ConfigError
from lie_sim.files import write_atomically
from lie_sim.plain import with_defaults


def begin_or_go_on(path: Path, content: Mapping[str, Any], *, like: Mapping[str, Any] | None = None) -> None:
    """Write down what is begun, or compare it with what is there.

    Args:
        path: the TOML file.
        content: plain values.
        like: dataclasses of which tables of the content are; what has its default there may be missing in a file that
            an earlier version wrote.

    Raises:
        ConfigError: something else was begun there; the message names what differs.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "search.toml")
        >>> begin_or_go_on(path, {"seed": 1})
        >>> begin_or_go_on(path, {"seed": 2})
        Traceback (most recent call last):
        lie_sim.errors.ConfigError: ... was begun with other options (seed): use them, or another folder
    """
    if path.exists():
        try:
            there = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        before, now = (_compared(values, like or {}) for values in (there, content))
        differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if differing:
            raise ConfigError(
                f"{path.parent} was begun with other options ({', '.join(differing)}): use them, or another folder"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, tomli_w.dumps(dict(content)).encode())


def _compared(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the defaults of what is missing."""
    tables = {
        key: with_defaults(values[key], config)
        for key, config in like.items()
        if isinstance(values.get(key), dict)
    }
    return {**values, **tables}
