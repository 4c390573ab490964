"""The folders of benchmarks and docs on the path, as when their scripts are run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by name, and forgets it, and all that it imported from there, after the test."""
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("no benchmarks: these tests run away from the checkout")
    for folder in ("benchmarks", "docs"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    threads, before = torch.get_num_threads(), set(sys.modules)
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if Path(file).is_relative_to(ROOT / "benchmarks") or Path(file).is_relative_to(ROOT / "docs"):
            del sys.modules[name]
