"""The benchmark of QM9: which run of the peer counts, what it is given, and its table."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="no benchmarks: these tests run away from the checkout"
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in ("benchmarks", "docs"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    threads = torch.get_num_threads()
    yield importlib.import_module("qm9")  # type: ignore[misc]
    torch.set_num_threads(threads)
    for name in ("qm9", "record", "result_tables.properties", "result_tables.cells", "result_tables"):
        sys.modules.pop(name, None)


def run(error: float, **more: float) -> dict[str, float]:
    return {f"mae_{name}": error for name in ("mu", "alpha", "gap", "homo", "U0")} | more


def test_the_rate_that_is_better_in_validation_counts_even_if_it_is_worse_in_the_test(
    script: ModuleType,
) -> None:
    kept = {
        "painn-1000-0.0005": run(3.0, validation=0.3),
        "painn-1000-0.002": run(2.0, validation=0.4),
        "ours-1000": run(1.0) | {f"baseline_mae_{name}": 9.0 for name in script.TARGETS},
        "painn-5000-0.002": run(5.0, validation=0.4),
    }
    found = script.figures(kept)
    assert found["painn_mae_gap_1000"] == 3.0
    assert found["mae_gap_1000"] == 1.0
    assert found["baseline_mae_U0"] == 9.0
    assert found["painn_mae_gap_5000"] == 5.0
    assert "mae_gap_5000" not in found
    properties = importlib.import_module("result_tables.properties")
    result = {"figures": found, "command": "x", "date": "x", "machine": "x", "threads": 1, "versions": {}}
    row = next(line for line in properties.qm9(result).splitlines() if line.startswith("| gap"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["9", "1", "3", "–", "5", "–", "–"]


def test_the_peer_gets_what_the_composition_leaves_in_units_of_its_spread(
    script: ModuleType, tmp_path: Path
) -> None:
    from lie_sim.data.molecules import Molecules

    random, count = np.random.default_rng(0), 12
    sizes = random.integers(2, 5, count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    numbers = random.choice([1, 6], offsets[-1])
    values = {name: random.standard_normal(count) for name in script.TARGETS}
    lattice = np.zeros((count, 3, 3)), np.zeros((count, 3), bool)
    data = Molecules(numbers, random.standard_normal((offsets[-1], 3)), offsets, *lattice, values)
    made = type("Made", (), {"splits": {"train": data[:8], "validation": data[8:10], "test": data[10:]}})()
    baselines = script.write_data(made, tmp_path / "data.npz")
    with np.load(tmp_path / "data.npz", allow_pickle=False) as file:
        assert file["names"].tolist() == list(script.TARGETS)
        assert np.abs(file["train_targets"].std(0) - 1).max() < 1e-9
        base, scale = baselines["U0"]
        column = script.TARGETS.index("U0")
        again = file["test_targets"][:, column] * scale + base["test"]
    assert np.abs(again - values["U0"][10:] * script.QM9_HEADS["U0"].factor).max() < 1e-9
