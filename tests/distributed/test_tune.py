"""A search: the same values every time, trials that resume, and the best one found."""

from __future__ import annotations

import csv
import signal
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.distributed import tune
from lie_sim.distributed.space import Dimension, draw, parse_space, with_values
from lie_sim.errors import ConfigError
from lie_sim.training import TrainingConfig
from tests.training.test_world import CONFIG, Line, model

RATES = {"training.learning_rate": "log:1e-4,1e-1"}


@dataclass(frozen=True)
class LineConfig:
    bad: bool = False
    training: TrainingConfig = field(default_factory=lambda: CONFIG)


class LineExperiment:
    """As little of an experiment as a search needs; it counts how often it begins."""

    name: ClassVar[str] = "line"

    def __init__(self, config: LineConfig) -> None:
        self.config = config

    @property
    def training(self) -> TrainingConfig:
        return self.config.training

    def run(self, directory: Path, *, progress: bool, fit: Any) -> Any:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "begun").open("a") as file:
            file.write("once more\n")
        found = fit(model(), Line(self.config.bad), self.training, directory, progress=progress)
        (directory / "results.json").write_text("{}")
        return found


@given(
    text=st.sampled_from(["log:1e-4,1e-2", "uniform:-1,1.5", "int:2,5", "choice:8,relu,true"]),
    seed=st.integers(0, 2**31),
    number=st.integers(0, 10**6),
)
def test_draws_are_in_range_and_the_same_every_time(text: str, seed: int, number: int) -> None:
    space = {"x": Dimension.parse(text)}
    value = draw(space, seed, number)["x"]
    assert draw(space, seed, number)["x"] == value
    if text.startswith("choice"):
        assert value in (8, "relu", True)
    else:
        low, high = space["x"].values
        assert low <= value <= high
        assert isinstance(value, int) == text.startswith("int")


def test_draws_differ_and_the_logarithm_is_uniform() -> None:
    space = parse_space(RATES | {"training.weight_decay": "log:1e-4,1e-1"})
    drawn = [draw(space, 0, number) for number in range(300)]
    rates = [values["training.learning_rate"] for values in drawn]
    assert len(set(rates)) == 300
    assert rates[0] != drawn[0]["training.weight_decay"]
    below = sum(rate < 10**-2.5 for rate in rates) / 300
    assert below == pytest.approx(0.5, abs=0.1)  # 3.5 standard deviations


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("1e-4,1e-2", "values are log:, uniform:, int: or choice:"),
        ("log:0,1", "log: needs positive numbers"),
        ("uniform:2,1", "a smaller and a larger number"),
        ("int:1,2.5", "int: needs whole numbers"),
        ("choice:", "at least one value"),
    ],
)
def test_impossible_values(values: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"rate: .*{message}"):
        parse_space({"rate": values})


def test_values_go_into_nested_tables() -> None:
    assert with_values({"a": {"b": 1}, "c": 2}, {"a.b": 3, "a.d": 4}) == {"a": {"b": 3, "d": 4}, "c": 2}
    with pytest.raises(ConfigError, match="c is a value"):
        with_values({"c": 2}, {"c.x": 1})


def test_impossible_searches_write_nothing(tmp_path: Path) -> None:
    folder, experiment = tmp_path / "search", LineExperiment(LineConfig())
    for space, options, message in (
        ({"training.rate": "log:1,2"}, {}, "rate"),
        ({}, {}, "something to vary"),
        (RATES, {"samples": 0}, "samples must be at least 1"),
        (RATES, {"scheduler": "best"}, "scheduler must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            tune(experiment, space, **{"samples": 2, "folder": folder, **options})
    unvalidated = LineExperiment(LineConfig(training=TrainingConfig(validate_every=0)))
    with pytest.raises(ConfigError, match=r"give training\.validate_every"):
        tune(unvalidated, RATES, samples=2, folder=folder)
    assert not folder.exists()


@pytest.mark.ray
def test_a_search_finds_the_best_and_goes_on(nodes: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray.tune", exc_type=ImportError)
    folder, experiment = tmp_path / "search", LineExperiment(LineConfig())
    space = RATES | {"bad": "choice:false,true"}
    ctrl_c = signal.getsignal(signal.SIGINT)
    found = tune(experiment, space, samples=3, folder=folder, scheduler="random", progress=False, seed=0)
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    states = {trial.number: (trial.values["bad"], trial.state) for trial in found}
    assert set(states.values()) == {(False, "finished"), (True, "failed")}
    best = found[0]
    assert best.validation == min(trial.validation for trial in found)
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in found]
    options = tomllib.loads((folder / "best.toml").read_text())
    assert options["training"]["learning_rate"] == best.values["training.learning_rate"]

    (best.folder / "failed.txt").write_text("of another time")
    again = tune(experiment, space, samples=4, folder=folder, scheduler="random", progress=False, seed=0)
    assert (best.folder / "begun").read_text().count("\n") == 1  # finished trials are not begun again
    assert {t.number: t.validation for t in found}.items() <= {t.number: t.validation for t in again}.items()
    assert {t.number: t.state for t in found}.items() <= {t.number: t.state for t in again}.items()
    with pytest.raises(ConfigError, match=r"begun with other options \(seed\)"):
        tune(experiment, space, samples=4, folder=folder, seed=3)
