"""The benchmark of backbones: every part is what its name says, and learns."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from lie_sim.models import build_model, model_class_of
from lie_sim.plain import to_plain


@pytest.fixture
def backbones(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("backbones")


def test_parts_differ_in_backbone_and_width_only(backbones: ModuleType) -> None:
    pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
    seen = set()
    for part in backbones.parts():
        problem, backbone, width = part.split("-")
        made = backbones.config(problem, backbone, int(width))
        assert made.width == int(width)
        assert made.width % made.num_heads == 0
        assert model_class_of(made).name == {"lie": "lie_transformer", "se3": "se3_transformer"}[backbone]
        if problem != "ethanol":
            build_model(model_class_of(made).name, to_plain(made))
        seen.add((problem, backbone, width))
    assert len(seen) == 18


@pytest.mark.parametrize("problem", ["springs", "charges"])
def test_a_part_is_trained_and_tested(
    backbones: ModuleType, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "SPLITS", {"train": (0, 8), "validation": (1, 4), "test": (2, 4)})
    monkeypatch.setattr(backbones, "BATCH", 4)
    monkeypatch.setattr(backbones, "REPEATS", 1)
    found = backbones.bodies(problem, backbones.config(problem, "lie", 16), 0.5)
    assert found["steps"] >= 1
    assert found["ms"] > 0
    assert 0 < found["error"] < 2


def test_the_error_is_in_parts_of_the_spread(backbones: ModuleType) -> None:
    true = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    assert backbones.relative(true + 0.5, true) == pytest.approx(0.5 / float(true.std()))
