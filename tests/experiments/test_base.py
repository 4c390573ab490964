"""Names of experiments belong to one class."""

from __future__ import annotations

import pytest

from lie_sim.experiments import SpringsExperiment, experiment_class
from lie_sim.experiments.base import _EXPERIMENTS, register_experiment


def another(module: str, qualname: str) -> type[SpringsExperiment]:
    """A class with the name of the springs experiment."""
    return type("Another", (SpringsExperiment,), {"__module__": module, "__qualname__": qualname})


@pytest.mark.parametrize(
    ("module", "qualname"), [("mine", "SpringsExperiment"), (SpringsExperiment.__module__, "Another")]
)
def test_a_name_that_is_taken(module: str, qualname: str) -> None:
    message = r"'springs' is taken by lie_sim.experiments.springs.SpringsExperiment: choose another"
    with pytest.raises(ValueError, match=message):
        register_experiment(another(module, qualname))
    assert _EXPERIMENTS["springs"] is SpringsExperiment


def test_a_class_that_is_defined_again_takes_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_EXPERIMENTS, "springs", SpringsExperiment)
    again = another(SpringsExperiment.__module__, SpringsExperiment.__qualname__)
    assert register_experiment(again) is again
    assert _EXPERIMENTS["springs"] is again


@pytest.mark.parametrize(
    ("experiment", "figure", "unit"),
    [
        ("molecules", "energy_mae", "eV"),
        ("molecules", "energy_atom_mae", "eV/atom"),
        ("molecules", "force_rmse", "eV/Å"),
        ("molecules", "dipole_mae", ""),
        ("qm9", "mae_mu", "D"),
        ("qm9", "baseline_mae_U0", "meV"),
        ("springs", "rollout_mse", ""),
    ],
)
def test_figures_have_units(experiment: str, figure: str, unit: str) -> None:
    chosen = experiment_class(experiment)
    assert chosen(chosen.Config()).unit_of(figure) == unit
