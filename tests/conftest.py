"""Checks that hold for every test: shapes in signatures are verified, the random state is fixed."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

# The hook names its checker by module and attribute; this one lets an int stand for a float (PEP 484).
_checker = types.ModuleType("_lie_sim_shape_checker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
sys.modules[_checker.__name__] = _checker
install_import_hook("lie_sim", f"{_checker.__name__}.check")

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
