"""Checks that hold for every test: shapes in signatures are verified, the random state is fixed.

The first calls of a test are verified: those that a loop repeats ten thousand times would take most of the time.
"""

from __future__ import annotations

import functools
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

import jaxtyping
import pytest
import torch
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

VERIFIED = 300
"""Signatures that are verified in each test, arguments and result apart."""

_verified = 0
_typed = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand for a float (PEP 484)


def _check(function: Callable[..., Any]) -> Callable[..., Any]:
    typed = _typed(function)

    @functools.wraps(function)
    def verify(*args: Any, **kwargs: Any) -> Any:
        global _verified
        _verified += 1
        if _verified > VERIFIED:
            jaxtyping.config.update("jaxtyping_disable", True)
        return typed(*args, **kwargs)

    return verify


# The hook names its checker by module and attribute.
_checker = types.ModuleType("_lie_sim_shape_checker")
_checker.check = _check  # type: ignore[attr-defined]
sys.modules[_checker.__name__] = _checker
install_import_hook("lie_sim", f"{_checker.__name__}.check")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background so, and every process would inherit it: nothing answered Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _verified_shapes() -> None:
    global _verified
    _verified = 0
    jaxtyping.config.update("jaxtyping_disable", False)
