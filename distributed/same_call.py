"""What a folder is of, in a TOML file beside it: the same call goes on there, another is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from lie_sim.errors import ConfigError
from lie_sim.files import write_atomically


def begin_or_go_on(path: Path, content: Mapping[str, Any]) -> None:
    """Write down what is begun, or compare it with what is there.

    Args:
        path: the TOML file.
        content: plain values.

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
        differing = sorted(key for key in {*there, *content} if there.get(key) != content.get(key))
        if differing:
            raise ConfigError(
                f"{path.parent} was begun with other options ({', '.join(differing)}): use them, or another folder"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, tomli_w.dumps(dict(content)).encode())
