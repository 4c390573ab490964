"""The N-body benchmark: what turns and what does not, and that the figures are means of what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

TURN_ERROR, FREE_ERROR = 1e-5, 1e-6


@pytest.fixture
def charged(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("charged_nbody")


def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    q, v, end = torch.randn(3, 6, 5, 3, generator=draw)
    return {"q": q, "v": v, "end": end, "charges": torch.randn(6, 5, 1, generator=draw).sign()}


@pytest.mark.parametrize(
    "name",
    ["lie_transformer", "se3_transformer", "lie_without_attention", "set_transformer"],
)
def test_all_but_one_turn_with_the_system(charged: ModuleType, name: str) -> None:
    if name.startswith("se3"):
        pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
    torch.manual_seed(0)
    model, here = charged.build(name), batch()
    for parameter in model.parameters():  # heads begin at zero
        torch.nn.init.normal_(parameter, std=0.2)
    assert name in charged.MODELS
    away = charged.turned(here, seed=1)
    assert float((away["q"] - here["q"]).abs().max()) > 0.1
    matrices = torch.linalg.lstsq(here["q"], away["q"]).solution
    change = charged.predicted(model, away) - charged.predicted(model, here) @ matrices
    assert (float(change.detach().abs().max()) < TURN_ERROR * 100) == (name != "set_transformer")


def test_upright_systems_move_along_x(charged: ModuleType) -> None:
    here = batch()
    upright = charged.turned(here, seed=None)
    first = upright["v"][:, 0]
    assert torch.allclose(first[:, 0], here["v"][:, 0].norm(dim=-1), atol=FREE_ERROR)
    assert float(first[:, 1:].abs().max()) < FREE_ERROR
    lengths = [torch.cdist(state["q"], state["q"]) for state in (here, upright)]
    assert torch.allclose(*lengths, atol=1e-4)


def test_what_is_there_is_recorded(
    charged: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {
        "linear": {"mse": 0.08, "tau": 1.0},
        "lie_transformer-0": {"mse": 0.004, "median": 0.001, "ms_per_force": 0.1, "ms": 10.0},
        "lie_transformer-1": {"mse": 0.006, "median": 0.003, "ms_per_force": 0.3, "ms": 30.0},
        "set_transformer-0-upright": {"mse": 0.01, "mse_turned": 0.05},
    }
    for name, part in parts.items():
        asked = {"asked": {"budget": 420.0, "validate_every": 200}}
        (tmp_path / f"{name}.json").write_text(json.dumps(part | asked))
    written: dict[str, dict[str, float]] = {}
    monkeypatch.setattr(charged, "record", lambda name, figures, **rest: written.update({name: figures}))
    charged.main(["--keep", str(tmp_path), "--record"])
    assert written["charged_nbody"] == pytest.approx(
        {
            "mse_lie_transformer": 0.005,
            "median_lie_transformer": 0.002,
            "ms_per_force_lie_transformer": 0.2,
            "ms_lie_transformer": 20.0,
            "turned_set_transformer": 5.0,
            "best_mse": 0.005,
            "mse_linear": 0.08,
        }
    )


def test_close_encounters_count_less(charged: ModuleType) -> None:
    apart = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    frames = torch.stack([apart, apart]).repeat(3, 1, 1, 1)  # three frames of two systems
    frames[1, 1, 1] = torch.tensor([charged.NEAR / 2, 0, 0])
    assert charged.calm(frames).tolist() == pytest.approx([1.0, 1 / 16])
