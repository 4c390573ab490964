"""The benchmarks of speed and of the contract run, remember what was measured, and judge rightly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase.calculators.lj import LennardJones

Script = Callable[[str], ModuleType]
MADE_UP = {"command": "x", "versions": {}, "threads": 1, "date": "", "machine": ""}


@pytest.mark.parametrize("atoms", [192, 768])
def test_water_has_its_density_and_no_clashes(script: Script, atoms: int) -> None:
    water = script("molecules_timing").water(atoms)
    assert len(water) == atoms
    density = water.get_masses().sum() / water.get_volume() * 1.66054
    assert density == pytest.approx(1.0, abs=0.01)
    distances = water[:192].get_all_distances(mic=atoms == 192)
    assert distances[distances > 0].min() > 0.8


def test_every_evaluation_is_of_another_geometry(script: Script) -> None:
    timing = script("molecules_timing")
    seen = []

    class Watching(LennardJones):
        def calculate(self, atoms: Any, properties: Any, system_changes: Any) -> None:
            assert set(properties) == {"energy", "forces"}
            seen.append(atoms.positions.copy())
            super().calculate(atoms, properties, system_changes)

    timing.milliseconds(timing.through_ase(Watching(), timing.geometry("ethanol")), seconds=0)
    assert len(seen) >= 8
    assert np.abs(np.diff(seen, axis=0)).max(axis=(1, 2)).min() > 0


def test_median_of_at_least_five_after_a_warm_up(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = script("molecules_timing")
    clock, costs = [0.0], iter([50.0, 50.0, 50.0, 1.0, 9.0, 2.0, 3.0, 9.0])
    monkeypatch.setattr(timing.time, "process_time", lambda: clock[0])

    def action() -> None:
        clock[0] += 1e-3 * next(costs)

    assert timing.milliseconds(action, seconds=0.001) == pytest.approx(3.0)


def test_quick_run_measures_ours_and_names_who_is_missing(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    speed = script("molecules_speed")
    keep = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["molecules_speed.py", "--quick", "--keep", str(keep)])
    speed.main()
    shown = capsys.readouterr().out
    assert "skipped: mace: no environment was given" in shown
    rows = [json.loads(line) for line in keep.read_text().splitlines()]
    assert [list(row["ms"]) for row in rows] == [["ethanol"], ["water_192"]]
    assert 0 < rows[0]["ms"]["ethanol"] < rows[1]["ms"]["water_192"]
    assert rows[0]["parameters"] > 10_000
    monkeypatch.setattr(speed.subprocess, "run", lambda *_, **__: pytest.fail("measured again"))
    speed.main()


def test_steps_of_training_move_the_weights(script: Script) -> None:
    timing = script("molecules_timing")
    ours = timing.Ours()
    before = [p.detach().clone() for p in ours.module.parameters()]
    timing.measure(ours, "step_2", seconds=0)
    moved = [(p - old).abs().max().item() for p, old in zip(ours.module.parameters(), before, strict=True)]
    assert sum(each > 0 for each in moved) > 0.8 * len(moved)


def made_up_rows() -> list[dict[str, Any]]:
    """Two rounds of ours and PaiNN; growth N^1 in time."""
    rows = []
    for number, factor in ((1, 1.0), (2, 3.0), (3, 1.0)):
        for name, ms in (("ours", 2.0), ("painn", 8.0), ("ours_compiled", 0.5)):
            row = {"round": number, "contestant": name, "parameters": 1, "extra_mib": 1.0}
            rows.append(row | {"ms": {"ethanol": factor * ms, "many_32": factor * ms, "md": 2.0}})
        for atoms in (192, 768, 3072):
            row = {"round": number, "contestant": "ours", "parameters": 1, "extra_mib": 0.1 * atoms**0.5}
            rows.append(row | {"ms": {f"water_{atoms}": factor * 0.5 * atoms}})
    return rows


def test_figures_are_ratios_of_medians(script: Script) -> None:
    found = script("molecules_speed").figures(made_up_rows())
    assert found["ethanol_over_painn"] == pytest.approx(0.25)
    assert found["ethanol_compiled_over_painn"] == pytest.approx(0.0625)
    assert found["batch32_over_painn"] == pytest.approx(4.0)
    assert found["compiled_speedup"] == pytest.approx(4.0)
    assert found["exponent_time"] == pytest.approx(1.0)
    assert found["exponent_memory"] == pytest.approx(0.5)
    assert found["painn_ethanol_ms"] == 8.0
    assert "water192_over_mace" not in found
    assert "ours_water_768_ms" not in found


def test_speed_is_shown_in_the_units_of_the_table(script: Script) -> None:
    speed, rows = script("molecules_speed"), made_up_rows()
    details = {
        "ms": speed.medians(rows),
        "parameters": {"ours": 95_105, "painn": 589_057, "ours_compiled": 95_105},
        "growth": speed.growth_rows(rows),
        "rounds": 3,
        "peers": {"schnetpack": "2.2.0"},
    }
    result = MADE_UP | {"details": details, "figures": speed.figures(rows)}
    shown = script("result_tables.molecules").molecules_speed(result)
    assert "| **ours** | 95,000 | 2 | – | 96 | 500 | 500 | – | – |" in shown
    assert "| energy and forces of ethanol, over PaiNN 128 | 0.25 | ≤ 0.6 |" in shown
    assert "| 3,072 | 1,500 | 5.5 |" in shown


def test_ours_keeps_the_whole_contract(script: Script) -> None:
    row = script("conformance").conformance("ours")
    assert row["failed"] == {}
    assert row["tests"] >= 14
    assert row["errors"]["energy turned"] < 1e-13


def test_who_breaks_the_contract_is_told_where(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    conformance = script("conformance")

    class Wrong(LennardJones):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            self.results["forces"] = 1.01 * self.results["forces"]

    monkeypatch.setattr(conformance, "make_calculator", lambda _: Wrong(rc=4.0, smooth=True))
    row = conformance.conformance("painn")
    assert row["failed"]["test_forces_are_the_slope_of_the_energy"].startswith("AssertionError: forces of")
    assert row["errors"]["forces of C2OH6"] == pytest.approx(0.01, rel=0.1)
    assert "test_energy_does_not_depend_on_place_or_order" not in row["failed"]
    shown = script("result_tables.molecules").conformance(MADE_UP | {"details": {"rows": [row]}})
    assert "| PaiNN, 128 features (SchNetPack) |" in shown
    assert "forces" in shown.splitlines()[2].split("|")[-2]
    assert conformance.figures([row])["painn_force_error"] == pytest.approx(0.01, rel=0.1)
