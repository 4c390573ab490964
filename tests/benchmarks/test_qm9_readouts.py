"""The benchmark of readouts: it changes what it compares and nothing else, and records what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lie_sim.models import AtomicPotential, HeadConfig


@pytest.fixture
def qm9_readouts(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("qm9_readouts")


def test_only_intensive_heads_change(qm9_readouts: ModuleType) -> None:
    heads = {"gap": HeadConfig("intensive", mean=3.0, scale=0.5), "Cv": HeadConfig("extensive")}
    before = AtomicPotential.default(elements=(1, 6), heads=heads, with_energy=False).config
    after = qm9_readouts.with_readout(AtomicPotential(before), "sag").config
    assert after.heads == {
        "gap": HeadConfig("intensive", mean=3.0, scale=0.5, readout="sag"),
        "Cv": heads["Cv"],
    }
    assert (after.network, after.elements) == (before.network, before.elements)


def test_what_is_there_is_recorded(
    qm9_readouts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for readout, error in {"sum": 80.0, "sag": 100.0}.items():
        asked = {"budget": 300.0, "size": 5000, "num_test": 13083}
        (tmp_path / f"{readout}.json").write_text(json.dumps({"mae_gap": error, "asked": asked}))
    written: dict[str, object] = {}
    monkeypatch.setattr(qm9_readouts, "record", lambda name, figures, **rest: written.update({name: figures}))
    qm9_readouts.main(["--keep", str(tmp_path), "--record"])
    assert written == {"qm9_readouts": {"mae_gap_sum": 80.0, "mae_gap_sag": 100.0}}
