"""Learning from what is uncertain: the data grow, and every stage goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule

from lie_sim import save_model
from lie_sim.data.labelling import LabelConfig, label_file
from lie_sim.data.sampling import Sampling
from lie_sim.distributed import active
from lie_sim.distributed.active import Exploration, learn
from lie_sim.errors import ConfigError
from lie_sim.experiments import MoleculesConfig, MoleculesExperiment
from lie_sim.experiments.dynamics_options import DynamicsOptions
from lie_sim.experiments.molecules import molecules_model, molecules_training
from lie_sim.models import AtomicPotential

EXPLORATION = Exploration(systems=2, steps=40, save_every=10, choose=3, distinct=0.01)
OPTIONS: dict[str, Any] = {
    "calculator": "emt",
    "rounds": 1,
    "exploration": EXPLORATION,
    "largest_force": 100.0,
    "progress": False,
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> MoleculesExperiment:
    file = tmp_path_factory.mktemp("data") / "water.extxyz"
    starts = []
    for seed in range(12):
        starts.append(molecule("H2O"))
        starts[-1].rattle(0.05, seed=seed)
    label_file(file, starts, LabelConfig("emt", Sampling(sampling="none"), largest_force=100.0))
    model = replace(molecules_model(), width=8, num_heads=4, num_moments=2, kernel_hidden=8, num_layers=1)
    training = replace(
        molecules_training(), max_steps=10, max_cpu_seconds=0.0, warmup_steps=2, validate_every=5
    )
    still = DynamicsOptions(picoseconds=0.0)
    return MoleculesExperiment(
        MoleculesConfig(data=str(file), dynamics=still, model=model, training=training)
    )


class Stopped(Exception):
    """What interrupts a stage."""


def test_data_grow_and_every_stage_resumes(
    experiment: MoleculesExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unjudged(self: MoleculesExperiment, folder: Path, *_: Any, **__: Any) -> None:
        (folder / "results.json").write_text("{}")

    monkeypatch.setattr(MoleculesExperiment, "evaluate_run", unjudged)
    whole = learn(experiment, folder=tmp_path / "whole", **OPTIONS)
    assert [(r.number, r.structures) for r in whole] == [(0, 12), (1, 12 + whole[0].labelled)]
    assert 1 <= whole[0].labelled <= whole[0].chosen <= EXPLORATION.choose
    assert (tmp_path / "whole" / "round_01" / "model_1" / "model" / "model.json").is_file()

    for stage in ("train", "simulate", "uncertainties", "label_file"):
        with monkeypatch.context() as broken:

            def stop(*_: Any, **__: Any) -> None:
                raise Stopped

            broken.setattr(active, stage, stop)
            with pytest.raises(Stopped):
                learn(experiment, folder=tmp_path / "parts", **OPTIONS)
    parts = learn(experiment, folder=tmp_path / "parts", **OPTIONS)
    assert [replace(r, folder=whole[k].folder) for k, r in enumerate(parts)] == whole
    assert trained(tmp_path / "parts") == trained(tmp_path / "whole")


def test_frames_keep_charge_and_spin(
    experiment: MoleculesExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise ions are labelled as neutral molecules."""
    ions = list(ase.io.iread(experiment.config.data))
    for number, atoms in enumerate(ions):
        atoms.info |= {"charge": number % 2, "spin": number % 2}
    ase.io.write(tmp_path / "ions.extxyz", ions)
    save_model(AtomicPotential.default(elements=(1, 8)), tmp_path / "model")
    monkeypatch.setattr(
        active, "_least_certain", lambda here, models, frames, exploration: range(len(frames))
    )
    few = replace(EXPLORATION, systems=6, steps=10)
    found = active._chosen(tmp_path, [tmp_path], tmp_path / "ions.extxyz", few, 0, progress=False)
    starts = active._starts(tmp_path / "ions.extxyz", few, 0)
    assert {atoms.info["charge"] for atoms in starts} == {0, 1}
    assert [atoms.info for atoms in found] == [atoms.info for atoms in starts]


def trained(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in ("*/*.extxyz", "*/model_*/model/weights-*")
        for path in folder.glob(pattern)
    }


def test_impossible_options_and_other_folders(experiment: MoleculesExperiment, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="members at least 2"):
        learn(experiment, folder=tmp_path / "a", members=1, **OPTIONS)
    for wrong in ({"calculator": "spam"}, {"label_workers": 0}, {"largest_force": -1.0}):
        with pytest.raises(ConfigError, match=r"unknown calculator 'spam'|label_workers|largest_force"):
            learn(experiment, folder=tmp_path / "a", **OPTIONS | wrong)
    with pytest.raises(ConfigError, match="a multiple of save_every=50"):
        Exploration(steps=70)
    with pytest.raises(ConfigError, match="temperature must be positive"):
        Exploration(temperature=0.0)
    assert not list(tmp_path.iterdir())
