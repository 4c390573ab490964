"""Options of a command from a dataclass: tyro makes the parser and the help, mistakes become one line.

A field ``max_steps`` of the nested dataclass ``training`` is the option ``--training.max-steps``; its help is
its line in the ``Args`` section of the docstring.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

from lie_sim.cli.errors import OPTIONS, VALUES, UsageError, suggestion

T = TypeVar("T")

LARGEST = 2**63 - 1
"""Largest whole number of any option: sizes and seeds of torch have 64 bits."""

_NUMBER = re.compile(r"-(\d|\.\d|inf$)")
_CONVERSIONS = (
    (re.compile(r"invalid literal for int\(\) with base 10: "), "expected a whole number, got "),
    (re.compile(r"could not convert string to float: "), "expected a number, got "),
    (re.compile(r"^Error parsing (settings\.)?"), ""),
)


def parse(cls: type[T], argv: Sequence[str], *, prog: str, default: T | None = None) -> T:
    """Make a dataclass from the command line.

    Args:
        cls: the dataclass.
        argv: the words after the command.
        prog: the command, for the help.
        default: what holds where the command line is silent; None takes the defaults of the dataclass. It is
            needed where a field is itself a dataclass.

    Raises:
        UsageError: a word is no option, an option has no value or a wrong one. Whole numbers are counts and
            seeds, from 0 to :data:`LARGEST`; others are finite (a run is kept as JSON and TOML).
        SystemExit: help was asked for, and shown.

    Example:
        >>> from lie_sim.training import TrainingConfig
        >>> parse(TrainingConfig, ["--max-steps", "7"], prog="example").max_steps
        7
        >>> parse(TrainingConfig, ["--max-step", "7"], prog="example")
        Traceback (most recent call last):
        lie_sim.cli.errors.UsageError: unknown option --max-step; did you mean --max-steps?
    """
    known = ["--help", "-h", *option_names(cls if default is None else default)]
    for word in argv:
        name = _canonical(word)
        if word.startswith("-") and not _NUMBER.match(word) and name not in known:
            raise UsageError(f"unknown option {word.partition('=')[0]}{suggestion(name, known)}")
    in_a_file = "--config" in map(_canonical, argv)  # where they are called as in Python
    OPTIONS.set(() if in_a_file else tuple(known))
    VALUES.set(" ".join(word.partition("=")[2] if word.startswith("--") else word for word in argv))
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            options, rest = _run_tyro(cls, argv, prog, default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_explanation(messages.getvalue())) from None
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}; see {prog} --help")
    for name, value in _numbers(options):
        _check_number(name, value)
    return options


def _run_tyro(cls: type[T], argv: Sequence[str], prog: str, default: T | None) -> tuple[T, list[str]]:
    given: dict[str, Any] = {} if default is None else {"default": default}
    plain = (tyro.conf.AvoidSubcommands,)  # of a choice of dataclasses, the options of the default
    return tyro.cli(cls, prog=prog, args=list(argv), return_unknown_args=True, config=plain, **given)


def option_names(options: Any, prefix: str = "") -> list[str]:
    """Every option that a dataclass, or an instance of one, makes.

    Example:
        >>> from lie_sim.experiments import SpringsConfig
        >>> [name for name in option_names(SpringsConfig()) if name.endswith(("seed", "centre"))]
        ['--data-seed', '--model.lift-seed', '--model.centre', '--model.no-centre', '--training.seed']
    """
    names: list[str] = []
    hints = get_type_hints(options if isinstance(options, type) else type(options), include_extras=True)
    for field in fields(options):
        value, marks = getattr(options, field.name, None), _marks(hints[field.name])
        name = field.name.replace("_", "-")
        if is_dataclass(value):
            names += option_names(value, prefix if _NAMELESS in marks else f"{prefix}{name}.")
        elif tyro.conf.Positional not in marks:
            names += [f"--{prefix}{name}", f"--{prefix}no-{name}"][: 2 if isinstance(value, bool) else 1]
    return names


def _numbers(options: Any, prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number in an instance of a dataclass, with the name of its option."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if is_dataclass(value):
            yield from _numbers(
                value, prefix if _NAMELESS in _marks(hints[field.name]) else f"{prefix}{name}."
            )
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield f"--{prefix}{name}", number


def _check_number(name: str, value: int | float) -> None:
    if isinstance(value, int) and not 0 <= value <= LARGEST:
        raise UsageError(f"{name}: expected a whole number from 0 to 2^63 - 1, got {value}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: expected a finite number, got {value}")


_NAMELESS = tyro.conf.arg(name="")

Inlined = Annotated[T, _NAMELESS]
"""A nested dataclass whose options stand at the top level, without a prefix."""


def _marks(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _canonical(word: str) -> str:
    """``--num_train=7`` as ``--num-train``."""
    return word.partition("=")[0].replace("_", "-")


def _explanation(box: str) -> str:
    """The first paragraph of tyro's framed message, in plain words."""
    paragraph: list[str] = []
    for line in box.splitlines():
        text = line.strip("│| ")
        if text.strip("╭╮╰╯─+-") and not line.startswith(("╭", "╰", "+")):
            paragraph.append(text)
        elif paragraph:
            break
    message = " ".join(paragraph) or "the options cannot be read"
    for pattern, words in _CONVERSIONS:
        message = pattern.sub(words, message)
    return message
