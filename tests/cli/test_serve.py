"""``lie-sim serve``: its words reach the server, mistakes are one line, Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from lie_sim.calculators.wire import Facts
from lie_sim.cli import serve as serve_module
from lie_sim.distributed import Served

Run = Callable[..., Any]
TOKEN = "a token of some length"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the server was asked to serve, and that it was closed."""
    told: list[Any] = []

    @contextmanager
    def serve(model: str, **options: Any) -> Iterator[Served]:
        told.append((model, options))
        yield Served("http://127.0.0.1:8001", Facts("ab", ("energy",), (), 9))
        told.append("closed")

    monkeypatch.setattr(serve_module, "served_model", serve)
    return told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(
    served: list[Any], lie_sim: Run, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n")
    before = signal.getsignal(number)
    Timer(0.5, os.kill, (os.getpid(), number)).start()
    words = ["--port", 8001, "--replicas", 3, "--token-file", tmp_path / "token.txt", "--max-wait", 0.1]
    done = lie_sim("serve", "organic-gfn2", *words)
    assert (done.code, done.err) == (0, "")
    assert 'RemoteCalculator("http://127.0.0.1:8001"); Ctrl-C stops' in done.out
    assert TOKEN not in done.out
    (model, options), closed = served
    assert (model, closed) == ("organic-gfn2", "closed")
    wanted = {"port": 8001, "num_replicas": 3, "token": TOKEN, "max_wait": 0.1, "host": "127.0.0.1"}
    assert wanted.items() <= options.items()
    assert signal.getsignal(number) == before


def test_a_token_is_not_empty(served: list[Any], lie_sim: Run, tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text("\n")
    done = lie_sim("serve", "organic-gfn2", "--token-file", tmp_path / "token.txt")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"lie-sim serve: {tmp_path}/token.txt is empty: it must hold the token\n"
    assert served == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached by others: give a token, or listen on 127.0.0.1"),
        (["--port", 70000], "port must be from 1 to 65535, got 70000"),
        (["--replica", 2], "unknown option --replica; did you mean --replicas?"),
        (["--token-file", "nowhere.txt"], "nowhere.txt: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(words: list[Any], message: str, lie_sim: Run) -> None:
    done = lie_sim("serve", "organic-gfn2", *words)
    assert (done.code, done.err) == (2, f"lie-sim serve: {message}\n")
