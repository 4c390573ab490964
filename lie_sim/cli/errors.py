"""What the command line says when something goes wrong: one line on standard error, and an exit code.

0     done
1     the run failed: numbers became NaN, the disk is full, …
2     what was given is wrong: an option, a configuration, a missing or damaged file
130   stopped by Ctrl-C
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from contextvars import ContextVar

from lie_sim.errors import CheckpointError, ConfigError, DataError, LieSimError, TrainingInterrupted

EXPECTED = (LieSimError, OSError, ValueError, KeyboardInterrupt)
"""Failures that are explained in one line; anything else is a bug and shows where it happened."""

_INPUT = (ConfigError, CheckpointError, DataError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


_ALIKE = 0.7
"""Share of letters that an option must have in common with the one that is suggested: a wrong one may do harm."""


ALSO_CALLED = {
    "lr": ("learning-rate",),
    "epochs": ("max-steps", "max-cpu-seconds"),
    "iterations": ("max-steps", "steps"),
    "num-steps": ("steps", "max-steps"),
    "dt": ("step-size", "time-step"),
    "timestep": ("step-size", "time-step"),
    "r-max": ("cutoff",),
    "rcut": ("cutoff",),
    "hidden-dim": ("width",),
    "layers": ("num-layers",),
    "batch": ("batch-size",),
    "wd": ("weight-decay",),
    "output": ("out",),
    "cuda": ("device",),
    "gpu": ("device",),
    "jobs": ("workers",),
    "integrator": ("method",),
    "solver": ("method",),
    "pretrained": ("start-from",),
    "checkpoint": ("start-from",),
    "verlet": ("leapfrog", "position_verlet"),
    "velocity_verlet": ("leapfrog",),
    "velocityverlet": ("leapfrog",),
}
"""Other names of an option or a value, and ours; the nearest in letters would be another thing."""


OPTIONS: ContextVar[tuple[str, ...]] = ContextVar("options", default=())
"""Options of the command that is running: a message calls them as the reader has to."""
VALUES: ContextVar[str] = ContextVar("values", default="")
"""What was given beside options: a folder may be called like one of them."""

_QUOTED = r"(?<!\w)(?:'[^']*'|\"[^\"]*\"|`[^`]*`|“[^”]*”)"
_NAME = re.compile(
    _QUOTED + r"|(?<![\w./\\?&@:~$=-])(?<!\w\()((?:[a-z]+\.)?[a-z]+(?:_[a-z]+)+)(=False)?(?![\w/\\(-]|\.\w)"
)
"""A name such as max_steps or training.max_steps, where it is no part of a path; or a text in quotes."""
_OF_FILES = (".toml", "unknown key")
"""Messages about files of options, where they have the names of Python."""


class UsageError(LieSimError):
    """The command line itself is wrong."""


class StoppedError(LieSimError):
    """Ctrl-C; the message says how to go on."""


def exit_code(error: BaseException) -> int:
    """The exit code for a failure.

    Example:
        >>> exit_code(ConfigError("unknown key")), exit_code(PermissionError("report.html"))
        (2, 1)
    """
    if isinstance(error, StoppedError | TrainingInterrupted | KeyboardInterrupt):
        return 130
    # The numbers a command gets come from its options, so a refused value is a refused option.
    return 2 if isinstance(error, (UsageError, ValueError, *_INPUT)) else 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was the problem; torch says so on the CPU by the text of a RuntimeError only.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"))
        True
        >>> is_out_of_memory(RuntimeError("shapes differ"))
        False
    """
    words = ("allocate memory", "out of memory", "storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def one_line(error: BaseException) -> str:
    r"""The message of a failure, in one line and in words of the command line.

    Example:
        >>> one_line(ConfigError("other options:\n use resume='restart'"))
        'other options: use --restart'
        >>> one_line(FileNotFoundError(2, "No such file or directory", "a.toml"))
        'a.toml: No such file or directory'
    """
    text = " ".join(str(error).split())
    if not isinstance(error, StoppedError | TrainingInterrupted):  # these give a command to type
        text = in_options(text, OPTIONS.get(), values=VALUES.get())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, KeyboardInterrupt):
        text = "stopped"
    return text.replace("resume='restart'", "--restart") or type(error).__name__


def in_options(text: str, options: Iterable[str], *, values: str = "") -> str:
    """A text with the names of options as the command line has them.

    Of options with the same name that of training is meant, or none. A text about a file of options stays, and so do
    names in quotes and those that are part of ``values``.

    Example:
        >>> in_options("max_steps must be positive; see 'max_steps'", ["--training.max-steps"])
        "--training.max-steps must be positive; see 'max_steps'"
        >>> in_options("use use_masses=False", ["--model.use-masses", "--model.no-use-masses"])
        'use --model.no-use-masses'
    """
    if any(each in text for each in _OF_FILES):
        return text
    known, found = list(options), dict[str, list[str]]()
    for option in known:
        name = option.lstrip("-").replace("-", "_")
        for each in {name, name.rpartition(".")[2]}:
            found.setdefault(each, []).append(option)

    def called(match: re.Match[str]) -> str:
        name, off = match[1], match[2] or ""
        if name is None or name in values:
            return match[0]
        names = found.get(name, [])
        names = [each for each in names if each.startswith("--training.")] or names
        if len(names) != 1:
            return match[0]
        head, dot, last = names[0].removeprefix("--").rpartition(".")
        without = f"--{head}{dot}no-{last}"
        return without if off and without in known else names[0] + off

    return _NAME.sub(called, text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """``"; did you mean …?"`` with the nearest of the known words, or nothing; options of training come first.

    Example:
        >>> suggestion("trian", ["train", "rollout"]), suggestion("--width", ["--model.width", "--seed"])
        ('; did you mean train?', '; did you mean --model.width?')
        >>> suggestion("--lr", ["--restart", "--training.learning-rate"])
        '; did you mean --training.learning-rate?'
        >>> suggestion("x", ["train"])
        ''
    """
    names = list(known)
    wanted = (word.lstrip("-"), *ALSO_CALLED.get(word.lstrip("-").lower(), ()))
    nested = [name for name in names if name.rpartition(".")[2].lstrip("-") in wanted]
    nested.sort(key=lambda name: not name.startswith("--training."))
    nearest = nested or difflib.get_close_matches(
        word, names, cutoff=_ALIKE if word.startswith("--") else 0.6
    )
    return f"; did you mean {nearest[0]}?" if nearest else ""
