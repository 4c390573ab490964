"""The page of a run shows what the journal and the segments say, however torn the journal is."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.cli.main import main
from lie_sim.distributed import Run, run_samples, simulate
from lie_sim.distributed.history import history
from lie_sim.distributed.journal import NAME, append, events
from lie_sim.distributed.manifest import ChunkEntry, Manifest
from lie_sim.distributed.run_report import MAX_NODES, failures_table, run_report
from lie_sim.models import AtomicPotential
from lie_sim.report import Table, write_report
from lie_sim.systems import Springs

SYSTEM = Springs(num_particles=3)
MANIFEST = Manifest(
    {}, "leapfrog", {}, 0.1, 250, 1, 100, (ChunkEntry(4, ""), ChunkEntry(2, "")), "", "float64"
)


def line(time: Any, event: Any = "new", **facts: Any) -> dict[str, Any]:
    return {"time": time, "event": event, "chunk": 0, "number": 0, "seconds": 1.0, "worker": "a:1", **facts}


def run_of_springs(folder: Path, **options: Any) -> Run:
    ensemble = SYSTEM.sample(6, generator=torch.Generator().manual_seed(0))
    options = {"steps": 40, "save_every": 2, "segment": 10, "chunk": 2, "method": "leapfrog"} | options
    return simulate(SYSTEM, ensemble, store=folder, dt=0.01, **options)


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL))


def cells(tables: list[Table], title: str) -> list[list[Any]]:
    (found,) = (table.rows for table in tables if table.title == title)
    return found


def test_work_is_spread_over_the_time_that_it_took() -> None:
    lines = [
        line(100.0, "begin"),
        line(104.0, seconds=4.0),
        line(106.0, seconds=2.0, number=2, chunk=1, worker="b:7"),
    ]
    told = history(lines, MANIFEST)
    assert told.computed.steps.tolist() == [400.0, 100.0]  # 4 systems · 100 steps; 2 systems · the last 50
    assert told.computed.work(np.array([0.0, 2.0, 5.0, 6.0])).tolist() == [0.0, 200.0, 450.0, 500.0]
    assert told.computed.node.tolist() == ["a", "b"]
    assert told.length == 6.0


def test_a_clock_that_jumps_back_stands_still() -> None:
    told = history([line(1000.0), line(1010.0), line(20.0), line(1015.0)], MANIFEST)
    assert told.computed.ended.tolist() == [0.0, 10.0, 10.0, 15.0]


WORDS = st.sampled_from(["new", "duplicate", "begin", "retry", "failed", "", 3, None])
STRANGE = st.one_of(
    st.none(), st.text(max_size=3), st.floats(), st.integers(-3, 5), st.lists(st.integers(), max_size=1)
)
LINES = st.fixed_dictionaries(
    {"time": st.floats(0, 1e9) | STRANGE, "event": WORDS},
    optional=dict.fromkeys(("chunk", "number", "seconds", "idle", "worker", "error"), STRANGE),
)


@given(st.lists(LINES, max_size=12))
def test_any_journal_is_read(lines: list[dict[str, Any]]) -> None:
    """Nothing depends on the journal, so nothing in it stops the report."""
    told = history(lines, MANIFEST)
    computed = told.computed
    assert len(computed.ended) == len(computed.steps) == len(computed.node) <= len(lines)
    assert (np.diff(computed.ended) >= 0).all()
    rates = np.diff(computed.work(np.linspace(0.0, told.length, 5)))
    assert (rates >= -1e-9 * max(1.0, computed.steps.sum())).all()
    assert failures_table(told).columns


def test_the_page_of_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = run_of_springs(tmp_path / "run")
    for event, facts in {"retry": {"error": "OSError: <full>"}, "failed": {"error": "gave up"}}.items():
        append(run.folder / NAME, line(next(events(run.folder))["time"] + 1e4, event, **facts))
    with (run.folder / NAME).open("a") as file:
        file.write('{"time": 1, "event": "ne')  # cut short
    assert main(["report", str(run.folder)]) == 0
    assert capfd.readouterr().out.strip() == str(run.folder / "report.html")
    text = text_of(run.folder / "report.html")
    for expected in ("12 of 12 (100.0%)", "OSError: <full>", "gave up", "leapfrog", "Throughput by node"):
        assert expected in text
    assert "predicted from" not in text
    assert len([*(run.folder / "figures").glob("plot_*.png")]) == 3


def test_numbers_of_the_page_are_those_of_the_segments(tmp_path: Path) -> None:
    run = run_of_springs(tmp_path)
    data = run_report(run)
    drift = np.array([end for k in range(3) for end in run.store.read(k, 3).array("end.drift")])
    _, shown = data.plots[2].curves["largest drift so far"]
    assert np.array_equal(shown, np.sort(drift))
    worst = cells(data.tables, "Worst trajectories")
    assert [int(row[0]) for row in worst] == np.argsort(-drift).tolist()
    assert [row[1] for row in worst] == np.sort(drift)[::-1].tolist()
    ((_, workers, segments, rate, busy),) = cells(data.tables, "Throughput by node")
    assert (workers, segments) == (1, 12)
    assert rate > 0
    assert 0 < busy <= 100
    times, done = data.plots[0].curves["segments"]
    assert (done[0], done[-1]) == (0, 12)
    assert (np.diff(times) >= 0).all()
    first, last = (int(data.trajectories[k].label.split()[1].rstrip(",")) for k in (0, -1))
    assert (first, last) == (np.argmin(drift), np.argmax(drift))
    assert np.array_equal(data.trajectories[0].true, run.trajectory(first).q[:])
    assert all(view.predicted is None for view in data.trajectories)


def test_trajectories_that_ended_come_first_and_move_until_then(tmp_path: Path) -> None:
    run = run_of_springs(tmp_path, drift_bound=1e-6, method="symplectic_euler")
    status, data = run.status(), run_report(run)
    worst = cells(data.tables, "Worst trajectories")
    assert [row[2] for row in worst[: len(status.drifted)]] == ["energy drift"] * len(status.drifted)
    assert status.drifted
    assert all(np.isfinite(view.true).all() for view in data.trajectories)
    assert "energy drift" in data.trajectories[-1].label


def test_a_run_without_energy_has_no_drift(tmp_path: Path) -> None:
    data = run_report(run_of_springs(tmp_path, method="baoab"))
    assert [plot.title for plot in data.plots] == ["Progress", "Throughput over time"]
    assert all("drift" not in view.label for view in data.trajectories)


def test_long_trajectories_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_samples, "MAX_FRAMES", 8)
    times = run_report(run_of_springs(tmp_path)).trajectories[0].times
    assert 4 < len(times) <= 8
    assert np.allclose(np.diff(times), times[1])


def test_atoms_have_units(tmp_path: Path) -> None:
    atoms = [Atoms("H3", np.eye(3)), Atoms("H2", np.eye(3)[:2])]
    model = AtomicPotential.default(elements=(1,))
    run = simulate(model, atoms, steps=4, dt=0.5 * units.fs, segment=2, store=tmp_path)
    view = run_report(run).trajectories[0]
    assert (view.time_unit, view.length_unit) == ("fs", "Å")
    assert view.times.tolist() == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_atoms_are_drawn_as_molecules_and_have_a_temperature(tmp_path: Path) -> None:
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], momenta=np.eye(3))
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    model = AtomicPotential.default(elements=(1, 8)).double()
    run = simulate(model, [water, hydrogen], steps=4, dt=0.1 * units.fs, segment=2, store=tmp_path)
    data = run_report(run)
    (view,) = [each for each in data.trajectories if each.label.startswith("trajectory 0 (H2O)")]
    assert view.colours == ["#ff0d0d", "#ffffff", "#ffffff"]
    assert view.bonds == [[0, 1], [0, 2]]
    assert view.sizes[0] > view.sizes[1] == view.sizes[2]
    (plot,) = [each for each in data.plots if each.title == "Temperature"]
    assert (plot.x_unit, plot.y_unit) == ("fs", "K")
    times, temperature = plot.curves["trajectory 0"]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert temperature[0] == pytest.approx(water.get_temperature())
    assert plot.curves["trajectory 1"][1][0] == 0  # the padding of the batch is no atom
    springs = run_report(run_of_springs(tmp_path / "springs"))
    assert "Temperature" not in [each.title for each in springs.plots]
    assert springs.trajectories[0].colours is springs.trajectories[0].bonds is None


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    run = run_of_springs(tmp_path, wait=False)
    data = run_report(run)
    assert (data.plots, data.tables, data.trajectories) == ([], [], [])
    write_report(data, tmp_path)
    assert "0 of 12 (0.0%)" in text_of(tmp_path / "report.html")


def test_many_nodes_are_cut_to_the_slowest(tmp_path: Path) -> None:
    run = run_of_springs(tmp_path)
    lines = [line(10.0 + k, seconds=1.0 + k, worker=f"node{k}:1") for k in range(MAX_NODES + 5)]
    (tmp_path / NAME).write_text("\n".join(map(json.dumps, lines)))
    rows = cells(run_report(run).tables, "Throughput by node")
    assert len(rows) == MAX_NODES
    assert rows[0][0] == f"node{MAX_NODES + 4}"
    assert not math.isnan(rows[0][3])


def test_a_folder_that_is_neither(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "neither manifest.json" in capfd.readouterr().err
