"""The root folders integrators/, calculators/ and distributed/ are parts of lie_sim and of nothing else.

The tests of the checkout (links, packages, bare names) are skipped where only the installed package is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import lie_sim

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("integrators", "calculators", "distributed")
IMPORT_CPU_SECONDS = 3.0
"""Most that all public names may add to ``import torch``; measured: 0.1 to 0.2 s (torch itself: 2.0 to 2.5 s)."""

in_checkout = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="no pyproject.toml: these tests run away from the checkout"
)


def run_python(code: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the same packages as this one, ``cwd`` before them."""
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def answer(code: str, cwd: Path) -> Any:
    """What the code prints, as JSON."""
    done = run_python(code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import lie_sim

found = ["lie_sim"]

def visit(name):
    found.append(name)
    path = getattr(importlib.import_module(name), "__path__", [])
    for inner in pkgutil.iter_modules(path, name + "."):
        if not inner.name.endswith("__main__"):
            visit(inner.name)

parts = [part.name for part in pkgutil.iter_modules(lie_sim.__path__, "lie_sim.")]
may_use_ray = [name for name in parts if name in ("lie_sim.distributed", "lie_sim.cli")]
for name in parts:
    if name not in may_use_ray:
        visit(name)
ray_loaded = "ray" in sys.modules
for name in may_use_ray:
    visit(name)
files = {}
for name, module in sys.modules.items():
    if (getattr(module, "__file__", None) or "").endswith(".py"):
        files.setdefault(module.__file__, []).append(name)
print(json.dumps({"found": found, "loaded": list(sys.modules), "files": files, "ray_loaded": ray_loaded}))
"""


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All modules of lie_sim, imported in one interpreter that was started elsewhere."""
    return answer(IMPORT_EVERYTHING, tmp_path_factory.mktemp("elsewhere"))


def test_every_part_is_found_under_its_one_name(everything: dict[str, Any]) -> None:
    for part in PARTS:
        assert f"lie_sim.{part}" in everything["found"]
    assert len(everything["found"]) > 20, "hardly any module was found: the test sees too little"


def test_no_bare_name_is_imported(everything: dict[str, Any]) -> None:
    assert not set(PARTS) & set(everything["loaded"])


def test_no_file_is_imported_twice(everything: dict[str, Any]) -> None:
    ours = {}
    for file, names in everything["files"].items():
        if any(name.split(".")[0] == "lie_sim" for name in names):
            ours.setdefault(str(Path(file).resolve()), []).extend(names)
    assert len(ours) > 20
    assert {file: names for file, names in ours.items() if len(names) > 1} == {}


def test_no_other_part_loads_ray(everything: dict[str, Any]) -> None:
    assert not everything["ray_loaded"], "something outside lie_sim.distributed and lie_sim.cli imports Ray"


def test_optional_packages_wait_for_their_use(everything: dict[str, Any]) -> None:
    assert not {"e3nn", "zarr", "h5py", "s3fs", "tblite", "torch_sim"} & set(everything["loaded"])


@in_checkout
@pytest.mark.parametrize("part", PARTS)
def test_link_is_relative_and_points_to_the_root_folder(part: str) -> None:
    link = ROOT / "lie_sim" / part
    if not link.is_symlink() and os.name == "nt":
        pytest.skip("this checkout has no symbolic links")
    assert link.is_symlink(), f"{link} should be a link; make it with: ln -s ../{part} lie_sim/{part}"
    assert link.readlink() == Path("..", part)
    assert link.resolve() == ROOT / part
    assert not (ROOT / part).is_symlink()


@in_checkout
def test_declared_packages_are_those_on_disk() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [
        path.parent.relative_to(ROOT)
        for top in ("lie_sim", *PARTS)
        for path in (ROOT / top).rglob("__init__.py")
    ]
    found = {
        ".".join(("lie_sim", *folder.parts) if folder.parts[0] in PARTS else folder.parts)
        for folder in folders
    }
    assert found - set(setuptools["packages"]) == set(), "on disk but not in [tool.setuptools] packages"
    assert set(setuptools["packages"]) - found == set(), "in [tool.setuptools] packages but not on disk"
    assert len(setuptools["packages"]) == len(set(setuptools["packages"]))
    inner = {
        name: name.removeprefix("lie_sim.").replace(".", "/")
        for name in found
        if name.split(".")[1:2] and name.split(".")[1] in PARTS
    }
    assert setuptools["package-dir"] == {"lie_sim": "lie_sim", **inner}


@in_checkout
@pytest.mark.parametrize("part", PARTS)
def test_bare_import_from_the_root_is_refused(part: str) -> None:
    done = run_python(f"import sys; sys.path.insert(0, ''); import {part}", cwd=ROOT)
    assert done.returncode != 0
    assert (
        f"ImportError: this folder is the package lie_sim.{part}: write 'import lie_sim.{part}'"
        in done.stderr
    )


STATE = """
import json, logging, os, random, sys, time
import numpy, torch

def state():
    return {
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "grad": torch.is_grad_enabled(),
        "seed": [torch.initial_seed(), hash(random.getstate()), str(numpy.random.get_state()[1][:3])],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "environment": dict(os.environ),
        "logging": [logging.root.level, len(logging.root.handlers)],
        "print": str(torch._tensor_str.PRINT_OPTS),
        "path": list(sys.path),
        "hooks": [len(sys.meta_path), len(sys.path_hooks), sys.excepthook is sys.__excepthook__],
    }

before, modules, clock = state(), set(sys.modules), time.process_time()
from lie_sim import *
seconds = time.process_time() - clock
print(json.dumps({"before": before, "after": state(), "seconds": seconds, "new": sorted(set(sys.modules) - modules)}))
"""


@pytest.fixture(scope="module")
def import_effects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return answer(STATE, tmp_path_factory.mktemp("elsewhere"))


def test_import_changes_no_state_of_the_process(import_effects: dict[str, Any]) -> None:
    assert import_effects["after"] == import_effects["before"]


def test_import_loads_neither_ray_nor_plotting_nor_ase(import_effects: dict[str, Any]) -> None:
    top = {name.split(".")[0] for name in import_effects["new"]}
    assert "lie_sim" in top
    assert not top & {"ray", "matplotlib", "ase", "pandas"}


def test_import_is_fast(import_effects: dict[str, Any]) -> None:
    seconds = import_effects["seconds"]
    assert seconds < IMPORT_CPU_SECONDS, (
        f"from lie_sim import * took {seconds:.2f} CPU-s > {IMPORT_CPU_SECONDS}"
    )


LAZY = """
import json, sys
import lie_sim

early = sorted({"torch", "numpy", "tyro"} & set(sys.modules))
listed = sorted(set(lie_sim.__all__) - set(dir(lie_sim)))
module = lie_sim.systems.__name__
by_name = {name: getattr(lie_sim, name) for name in lie_sim.__all__}
starred = {}
exec("from lie_sim import *", starred)
same = all(starred[name] is value for name, value in by_name.items())
homes = {name: getattr(value, "__module__", None) for name, value in by_name.items()}
print(json.dumps({"early": early, "unlisted": listed, "module": module, "same": same, "homes": homes}))
"""


def test_public_names_are_imported_at_their_first_use(tmp_path: Path) -> None:
    found = answer(LAZY, tmp_path)
    assert found["early"] == [], "import lie_sim alone should wait for nothing"
    assert found["unlisted"] == []
    assert found["module"] == "lie_sim.systems"
    assert found["same"]
    homes = found["homes"]
    assert homes.pop("__version__") is None
    assert set(homes) == set(lie_sim._HOME), "the lazy names are not those of __all__"
    assert all(home.startswith(f"lie_sim.{lie_sim._HOME[name]}") for name, home in homes.items())


def test_unknown_names_are_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'lie_sim' has no attribute 'LieTransfomer'"):
        lie_sim.LieTransfomer  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(lie_sim, "__wrapped__")
