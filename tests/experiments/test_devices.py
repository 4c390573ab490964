"""An evaluation works where the module lies, on the CPU or a GPU, and leaves it as it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from lie_sim.experiments import (
    Experiment,
    ShapesConfig,
    ShapesExperiment,
    SolarConfig,
    SolarExperiment,
    SpringsConfig,
    SpringsExperiment,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SAME = 1e-3  # relative; a float32 force rounds otherwise on another device, and the rollouts are short


@pytest.fixture(scope="module")
def experiments(tiny_springs: SpringsConfig) -> dict[str, Experiment[Any]]:
    solar = SolarConfig(train_start="1999-11-01", test_end="2000-02-01")
    shapes = ShapesConfig(num_train=8, num_validation=4, num_test=8)
    small = replace(shapes.model, width=8, num_heads=2, num_layers=1, num_radial=4, kernel_hidden=8)
    return {
        "springs": SpringsExperiment(tiny_springs),
        "solar": SolarExperiment(solar),
        "shapes": ShapesExperiment(replace(shapes, model=small)),
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["springs", "solar", "shapes"])
def test_an_evaluation_leaves_the_module_as_it_is(
    name: str, device: str, experiments: dict[str, Experiment[Any]]
) -> None:
    experiment = experiments[name]
    module = experiment.build().to(device=device, dtype=torch.float32).eval()
    before = copy.deepcopy(module.state_dict())
    found = experiment.evaluate(module, progress=False)
    after = module.state_dict()
    assert {key: (x.dtype, x.device) for key, x in after.items()} == {
        key: (x.dtype, x.device) for key, x in before.items()
    }
    assert all(torch.equal(after[key], before[key]) for key in before)
    on_the_cpu = experiment.evaluate(module.cpu(), progress=False)
    assert found.results == pytest.approx(on_the_cpu.results, rel=SAME, nan_ok=True)
