"""The entry point: choose the command, explain failures in one line, return the exit code.

A command's module, and torch with it, is imported when it runs: ``lie-sim --help`` waits for neither.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lie_sim
from lie_sim.cli.errors import (
    EXPECTED,
    OPTIONS,
    UsageError,
    exit_code,
    is_out_of_memory,
    one_line,
    suggestion,
)
from lie_sim.memory import keep_freed_memory

COMMANDS = {
    "demo": ("demo", "compare four ways to predict springs; minutes"),
    "train": ("train", "train an experiment, evaluate it and write its report"),
    "tune": ("tune", "search for good options of an experiment, on Ray"),
    "learn": ("learn", "train a potential, label what it is least certain of, and again"),
    "calibrate": ("calibrate", "calibrate the uncertainty of a potential of atoms"),
    "evaluate": ("evaluate", "evaluate the model of a run again, or any potential on a file of structures"),
    "report": ("evaluate", "write the report of a run again, without evaluating, or of a simulation"),
    "data": ("data", "read, check and keep a data set: qm9"),
    "label": ("label", "label structures with energies and forces by any ASE calculator"),
    "fit": ("fit", "fit a Hamiltonian to a table of observations with gaps, and forecast"),
    "rollout": ("rollout", "predict trajectories with a trained model"),
    "simulate": ("simulate", "simulate many systems for a long time, here or on Ray; survives everything"),
    "plan": ("plan", "what a simulation on many GPUs will need, and what is in the way first"),
    "template": ("template", "print a file to begin with: for Ray, KubeRay, Slurm or Grafana"),
    "resume": ("simulate", "go on with a simulation"),
    "status": ("stores", "how far a simulation or a training run is"),
    "watch": ("stores", "follow a simulation that runs elsewhere"),
    "verify": ("stores", "read every byte of a simulation and compare digests"),
    "compact": ("stores", "put the files of a simulation together"),
    "export": ("stores", "write a simulation as zarr, parquet, H5MD, extxyz or ASE trajectory"),
    "serve": ("serve", "serve a model of atoms to other programs; Ctrl-C stops it"),
    "info": ("info", "what a run, a simulation or a model is: options, symmetry, training, figures"),
    "config": ("info", "print the default options of an experiment as TOML"),
}
"""Name to (module, summary); the module has a function of the command's name."""

_LESS = "ask for fewer systems or steps, or a smaller model"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after ``lie-sim``; None takes them from the command line.

    Returns:
        The exit code; see :mod:`lie_sim.cli.errors`.

    Example:
        >>> main(["--version"])
        lie-sim 0.1.0
        0
    """
    words = sys.argv[1:] if argv is None else list(argv)
    command = words[0] if words and words[0] in COMMANDS else ""
    OPTIONS.set(())
    try:
        with _plain_warnings():
            _dispatch(words)
            sys.stdout.flush()
    except SystemExit as stop:  # help was shown
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:  # the reader has seen enough, as in `lie-sim config springs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except EXPECTED as error:
        print(f"lie-sim {command}".rstrip() + f": {one_line(error)}", file=sys.stderr)
        return exit_code(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"lie-sim {command}: there is not enough memory: {_LESS}", file=sys.stderr)
        return 1
    return 0


def _use_threads(words: list[str]) -> list[str]:
    """Set the number of threads and return the words without ``--threads N``.

    One thread unless told otherwise, by the option or by OMP_NUM_THREADS: the operations of these models are small, and
    several threads would mostly wait for each other.
    """
    count, rest = os.environ.get("OMP_NUM_THREADS") or "1", list(words)
    for position, word in enumerate(words):
        if word == "--threads" or word.startswith("--threads="):
            pair = [word] if "=" in word else words[position : position + 2]
            count, rest = (
                pair[-1].removeprefix("--threads="),
                words[:position] + words[position + len(pair) :],
            )
    if not count.isdigit() or not 1 <= int(count) <= 1024:
        raise UsageError(f"--threads must be a whole number from 1 to 1024, got {count!r}")
    torch = importlib.import_module("torch")
    torch.set_num_threads(int(count))
    return rest


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
    elif words[0] == "--version":
        print(f"lie-sim {lie_sim.__version__}")
    elif words[0] in COMMANDS:
        rest = _use_threads(words[1:])
        keep_freed_memory()
        module = importlib.import_module(f"lie_sim.cli.{COMMANDS[words[0]][0]}")
        getattr(module, words[0])(rest)
    else:
        kind = "option" if words[0].startswith("-") else "command"
        hint = suggestion(words[0], [*COMMANDS, "--help", "--version"])
        raise UsageError(f"unknown {kind} {words[0]}{hint or '; see lie-sim --help'}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: lie-sim COMMAND [...]",
            "",
            *(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()),
            "",
            "lie-sim COMMAND --help shows the options of a command; lie-sim --version shows the version.",
            "Every command takes --threads N (default: OMP_NUM_THREADS, or 1); more pay for large models only.",
        ]
    )


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as one line, without the source line that issued them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"lie-sim: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


if __name__ == "__main__":
    sys.exit(main())
