"""What a run refuses, in words, and what it leaves as it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule
from ase.calculators.calculator import InputError

from lie_sim import Hamiltonian, LieTransformer, save_model
from lie_sim.distributed import FailedChunksError, Run, label, simulate
from lie_sim.distributed.store import SegmentStore
from lie_sim.errors import ConfigError, DataError
from lie_sim.models import AtomicPotential
from lie_sim.rollout import Rollout
from lie_sim.systems import Springs
from tests.distributed.test_simulate import OPTIONS, SYSTEM, springs, waters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": 0.02}, "dt is 0.01 there and 0.02 here"),
        ({"method": "leapfrog"}, "method is 'pefrl' there and 'leapfrog' here"),
        ({"steps": 80}, "steps is 60 there and 80 here"),
        ({"segment": 30}, "segment_steps is 20 there and 30 here"),
        ({"chunk": 2}, "the initial states differ, or how many are in a chunk"),
        ({"drift_bound": 1.0}, "drift_bound is None there and 1.0 here"),
    ],
)
def test_another_run_is_refused_in_words(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    with pytest.raises(ConfigError, match=message):
        simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS | change)


def test_another_number_of_systems_is_told(tmp_path: Path) -> None:
    simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    with pytest.raises(ConfigError, match=f"there are {len(springs()[0].q)} initial states there and 1 here"):
        simulate(
            SYSTEM,
            SYSTEM.sample(1, generator=torch.Generator().manual_seed(0)),
            store=tmp_path,
            wait=False,
            **OPTIONS,
        )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"segment": 7}, ValueError, "segment must be a multiple of save_every=5"),
        ({"segment": "soon"}, ValueError, "a time such as '30s' or '5min'; got 'soon'"),
        ({"chunk": 0}, ValueError, "chunk must be at least 1"),
        ({"steps": 61}, ValueError, "^steps must be a multiple of save_every"),
        ({"seed": 1}, ValueError, "pefrl draws no noise, so it needs no seed"),
        ({"method": "baoab", "drift_bound": 1.0}, ValueError, "baoab keeps none"),
        ({"dt": math.nan}, ValueError, "step_size must be finite"),
    ],
)
def test_impossible_options(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        simulate(SYSTEM, springs(), store=tmp_path / "run", **OPTIONS | change)
    assert not (tmp_path / "run").exists()


def test_impossible_models_and_ensembles(tmp_path: Path) -> None:
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        (3.0, springs(), TypeError, "a run needs a potential"),
        (SYSTEM, [], TypeError, "an ensemble is"),
        (SYSTEM, waters(), TypeError, "atoms need a potential of atoms"),
        (LieTransformer.default(dim=2), springs(), ValueError, "computes in float32, .* are float64"),
        (AtomicPotential.default(elements=(1,)), waters(), InputError, "does not know the element O"),
    ]
    for model, ensemble, error, message in cases:
        with pytest.raises(error, match=message):
            simulate(model, ensemble, store=tmp_path / "run", **OPTIONS)


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file: a run needs a folder"):
        simulate(SYSTEM, springs(), store=tmp_path / "file", **OPTIONS)
    label([molecule("H2O")], "emt", store=tmp_path / "labels", wait=False)
    with pytest.raises(ConfigError, match="holds labels, not a run"):
        simulate(SYSTEM, springs(), store=tmp_path / "labels", **OPTIONS)
    simulate(SYSTEM, springs(), store=tmp_path / "run", wait=False, **OPTIONS)
    with pytest.raises(ConfigError, match="holds a run, not labels"):
        label([molecule("H2O")], "emt", store=tmp_path / "run")


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run = simulate(SYSTEM, springs(), store="a run with ünicode/", wait=False, **OPTIONS)
    monkeypatch.chdir(tmp_path / "elsewhere")
    run.finish()
    assert run.trajectory(0).q[-1].shape == (3, 2)
    assert Run(tmp_path / "a run with ünicode").status().complete


def test_an_altered_manifest_model_or_start_is_refused(tmp_path: Path) -> None:
    model = Hamiltonian(LieTransformer.default(dim=2)).double()
    run = simulate(model, springs(), store=tmp_path, wait=False, **OPTIONS)
    start = run.store.start_path(0)
    kept = start.read_bytes()
    start.write_bytes(run.store.start_path(1).read_bytes())
    with pytest.raises(FailedChunksError, match="holds other initial states than the manifest names"):
        run.finish()
    start.write_bytes(kept)
    save_model(Hamiltonian(LieTransformer.default(dim=2)).double(), tmp_path / "model")
    with pytest.raises(DataError, match="another model than the manifest names"):
        run.finish()
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"dt": 0.01', '"dt": 0.02'))
    with pytest.raises(DataError, match="altered after it was written"):
        Run(tmp_path)


def test_a_change_of_what_the_model_computes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    force = Springs.force
    monkeypatch.setattr(Springs, "force", lambda self, q, particles: force(self, q, particles) * (1 + 1e-15))
    with pytest.warns(UserWarning, match="force and energy at the start are not, to the bit"):
        simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)


def test_runner_of_the_same_name_is_not_changed(tmp_path: Path) -> None:
    """The energy of frame 0 and the end state are those that Rollout keeps."""
    state, particles = springs(3)
    runner = Rollout(SYSTEM, "csvr", OPTIONS["dt"])
    end = runner.run(state, 60, particles=particles, save_every=5)
    run = simulate(SYSTEM, (state, particles), store=tmp_path, method="csvr", **OPTIONS)
    assert torch.equal(run.store.read(0, 2).tensor("end.q"), end.state.q)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"holds thesis\.tex: a run needs a folder of its own"):
        simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "thesis.tex").rename(tmp_path / "models")
    with pytest.raises(ConfigError, match="holds models: a run needs"):
        simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)


def test_of_two_processes_that_begin_a_run_the_first_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = SegmentStore.make

    def late(self: SegmentStore) -> None:
        monkeypatch.setattr(SegmentStore, "make", make)
        simulate(SYSTEM, springs(), store=tmp_path, **OPTIONS)
        make(self)

    monkeypatch.setattr(SegmentStore, "make", late)
    assert simulate(SYSTEM, springs(), store=tmp_path, **OPTIONS).status().complete


def test_a_run_that_was_killed_before_its_manifest_begins_again(tmp_path: Path) -> None:
    simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    (tmp_path / "manifest.json").unlink()
    assert simulate(SYSTEM, springs(), store=tmp_path, **OPTIONS).status().complete
