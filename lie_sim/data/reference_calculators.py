"""The calculators that label structures, by name.

    gfn2, gfn1      tight binding, GFN2-xTB and GFN1-xTB, by tblite (extra "label")
    emt             effective medium theory of ASE; for metals, and to try things out
    pkg.mod:Name    anything importable that makes an ASE calculator when called without arguments

A calculator is made anew for every structure, so that no label depends on what was labelled before.

References: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15 (2019) 1652 (GFN2-xTB); Jacobsen, Stoltze, Nørskov,
Surf. Sci. 366 (1996) 394 (EMT).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lie_sim.errors import ConfigError, DataError

XTB = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB"}
XTB_ACCURACY = 0.1
"""A tenth of tblite's default tolerances: forces to about 1e-6 eV/Å."""
_INSTALL = 'pip install "lie_sim[label]"'


def reference_calculator(name: str) -> Any:
    """Make a calculator.

    Args:
        name: "gfn2", "gfn1", "emt" or "pkg.mod:Name".

    Raises:
        ConfigError: there is no such calculator.
        DataError: the package that it needs is missing; the message says how to install it.

    Example:
        >>> [type(reference_calculator(name)).__name__ for name in ("emt", "ase.calculators.lj:LennardJones")]
        ['EMT', 'LennardJones']
    """
    if name in XTB:
        return _xtb(XTB[name])
    if name == "emt":
        name = "ase.calculators.emt:EMT"
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"unknown calculator {name!r}; known are {', '.join(XTB)}, emt, and pkg.mod:Name")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot make a calculator of {name}: {error}") from error
    if not hasattr(made, "get_property"):
        raise ConfigError(f"{name} makes a {type(made).__name__}, which is no ASE calculator")
    return made


def calculator_version(name: str) -> dict[str, str]:
    """The method and the package it comes from, for the record.

    Example:
        >>> sorted(calculator_version("emt"))
        ['calculator', 'version']
    """
    package = (
        "tblite" if name in XTB else "ase" if name == "emt" else name.partition(".")[0].partition(":")[0]
    )
    try:
        found = f"{package} {version(package)}"
    except PackageNotFoundError:
        found = f"{package}, version unknown"
    return {"calculator": XTB.get(name, name), "version": found}


def _xtb(method: str) -> Any:
    with _one_thread():
        try:
            ase_interface = importlib.import_module("tblite.ase")
        except ImportError as error:
            raise DataError(f"{method} needs the package tblite: {_INSTALL}") from error
        return ase_interface.TBLite(method=method, accuracy=XTB_ACCURACY, verbosity=0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenMP reads its number of threads when a library is loaded; molecules are too small for more than one."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
