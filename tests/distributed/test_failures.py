"""Clocks that jump and files that are cut between two sessions: the run ends as the undisturbed one, byte for byte."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lie_sim.distributed import Run, simulate, verify
from lie_sim.distributed.journal import events
from lie_sim.distributed.run_report import run_report
from lie_sim.systems import Springs
from tests.distributed.chaos import snapshot

SYSTEM = Springs(num_particles=2)
CHUNKS, SEGMENTS = 2, 3
OPTIONS: dict[str, Any] = {
    "steps": 12,
    "dt": 0.01,
    "save_every": 2,
    "chunk": 2,
    "segment": 4,
    "method": "csvr",
}
YEAR = 3.15e7


def begun(folder: Path) -> Run:
    ensemble = SYSTEM.sample(2 * CHUNKS, generator=torch.Generator().manual_seed(0))
    return simulate(SYSTEM, ensemble, store=folder, wait=False, **OPTIONS)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = begun(tmp_path_factory.mktemp("undisturbed"))
    run.finish()
    return run.folder


def test_a_clock_that_jumps_changes_nothing(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decades to and fro, in the journal and in the times of the files; two sessions."""
    jumps = itertools.cycle([YEAR * 30, -YEAR * 20, 0.0, YEAR * 50, 1.0])
    monkeypatch.setattr("lie_sim.distributed.journal.time", SimpleNamespace(time=lambda: next(jumps)))
    run = begun(tmp_path)
    for _ in itertools.islice(run.work(), 3):
        for path in (tmp_path / "seg").rglob("*.safetensors"):
            os.utime(path, (YEAR * 90, next(jumps) % (YEAR * 60)))
    assert not run.status().complete
    Run(tmp_path).finish()
    assert snapshot(tmp_path) == snapshot(complete)
    assert min(entry["time"] for entry in events(tmp_path)) < 0
    progress = run_report(run).plots[0].curves["segments"]
    assert progress[1][-1] == CHUNKS * SEGMENTS
    assert (progress[0][1:] >= progress[0][:-1]).all()


@settings(max_examples=15)
@given(
    cuts=st.lists(
        st.tuples(
            st.integers(0, CHUNKS - 1), st.integers(0, SEGMENTS - 1), st.floats(0, 1, exclude_max=True)
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda cut: cut[:2],
    )
)
def test_files_that_are_cut_are_made_again(complete: Path, cuts: list[tuple[int, int, float]]) -> None:
    """Any of them, anywhere, by a power failure after a disk said that they were written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        shutil.copytree(complete, folder)
        run = Run(folder)
        for chunk, number, share in cuts:
            path = run.store.path(chunk, number)
            path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        assert not verify(run).sound
        run.finish()
        assert snapshot(folder) == snapshot(complete)
        assert verify(run).problems == verify(Run(complete)).problems
