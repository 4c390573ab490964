"""The same call goes on, another is refused; an option that came later has its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lie_sim.distributed.same_call import begin_or_go_on
from lie_sim.errors import ConfigError
from lie_sim.plain import to_plain


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class Options:
    rate: float = 0.1
    late: str = "as before"
    inner: Inner = field(default_factory=Inner)


OLD = {"seed": 1, "options": {"rate": 0.1, "inner": {}}}


def begun_long_ago(folder: Path) -> Path:
    """By a version that knew neither ``late`` nor ``depth``."""
    path = folder / "call.toml"
    begin_or_go_on(path, OLD)
    return path


def call(path: Path, options: Options, seed: int = 1) -> None:
    begin_or_go_on(path, {"seed": seed, "options": to_plain(options)}, like={"options": options})


def test_an_option_that_came_later_is_no_difference_where_it_has_its_default(tmp_path: Path) -> None:
    path = begun_long_ago(tmp_path)
    before = path.read_bytes()
    call(path, Options())
    assert path.read_bytes() == before


@pytest.mark.parametrize("other", [Options(late="new"), Options(rate=0.2), Options(inner=Inner(depth=3))])
def test_any_other_value_is_refused(tmp_path: Path, other: Options) -> None:
    path = begun_long_ago(tmp_path)
    with pytest.raises(ConfigError, match=r"other options \(options\)"):
        call(path, other)


def test_an_option_that_went_is_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "call.toml"
    begin_or_go_on(path, {"seed": 1, "options": {"gone": 1}})
    with pytest.raises(ConfigError, match=r"other options \(options\)"):
        call(path, Options())
    with pytest.raises(ConfigError, match=r"other options \(options, seed\)"):
        call(path, Options(), seed=2)
