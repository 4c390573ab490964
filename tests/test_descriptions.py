"""Models as plain values: every kind comes back as itself, and a class that would not is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lie_sim import Hamiltonian, LieTransformer, Particles
from lie_sim.checkpoint import load_model, save_model
from lie_sim.descriptions import describe_model
from lie_sim.errors import CheckpointError
from lie_sim.models import (
    GraphClassifier,
    GraphClassifierConfig,
    LieTransformerClassifier,
    LieTransformerConfig,
    SE3TransformerConfig,
    SE3TransformerDynamics,
)
from lie_sim.pooling import GraphBatch
from tests.saved import TINY, rewrite, some_input


def test_classifier_round_trip(tmp_path: Path) -> None:
    model = LieTransformerClassifier(LieTransformerConfig(**TINY, readout="mean"), num_outputs=5)
    save_model(model, tmp_path)
    q, particles = some_input(torch.float32)
    loaded = load_model(str(tmp_path))
    assert isinstance(loaded, LieTransformerClassifier)
    assert torch.equal(loaded(q, particles), model(q, particles))


def test_graph_classifiers_and_motions_round_trip(tmp_path: Path) -> None:
    edge = GraphBatch(
        torch.ones(2, 1), torch.tensor([1, 0]), torch.tensor([0, 1, 2]), torch.tensor([0, 0]), 1
    )
    model = GraphClassifier(GraphClassifierConfig(num_features=1, num_classes=2, width=8)).eval()
    save_model(model, tmp_path / "graphs")
    loaded = load_model(tmp_path / "graphs")
    assert isinstance(loaded, GraphClassifier)
    assert torch.equal(loaded.eval()(edge), model(edge))
    pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
    motion = SE3TransformerDynamics(SE3TransformerConfig(width=8), velocity_scale=2)
    save_model(motion, tmp_path / "motion")
    assert describe_model(motion)["options"] == {"velocity_scale": 2.0}
    again = load_model(tmp_path / "motion")
    assert isinstance(again, SE3TransformerDynamics)
    q, velocities = torch.randn(2, 1, 5, 3)
    particles = Particles(masses=torch.ones(1, 5))
    for found, expected in zip(
        again(q, velocities, particles), motion(q, velocities, particles), strict=True
    ):
        assert torch.equal(found, expected)
    rewrite(tmp_path / "motion", options={"velocity_scale": "two"})
    with pytest.raises(CheckpointError, match="velocity_scale must be float, got str"):
        load_model(tmp_path / "motion")


def test_resampled_lifts_are_kept(tmp_path: Path) -> None:
    model = LieTransformer.default(**TINY, lifting="haar", group="SE(2)", num_lifts=2)
    q, particles = some_input(torch.float32)
    before = model(q, particles)
    model.backbone.lifting.resample(77)
    save_model(model, tmp_path)
    predicted = load_model(tmp_path)(q, particles)
    assert torch.equal(predicted, model(q, particles))
    assert not torch.equal(predicted, before)


class _Louder(LieTransformer):
    """Not registered under a name of its own."""

    def forward(self, q, particles, neighbours=None):  # type: ignore[no-untyped-def]
        return 100 * super().forward(q, particles, neighbours)


class _Damped(Hamiltonian):
    """A Hamiltonian that is loaded as an ordinary one."""


@pytest.mark.parametrize("wrap", [lambda m: m, Hamiltonian])
def test_an_unregistered_subclass_is_not_saved_as_its_base_class(wrap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = wrap(_Louder(LieTransformerConfig(num_layers=1)))
    with pytest.raises(TypeError, match=r"cannot save a _Louder.*@register_model"):
        save_model(model, tmp_path / "model")


def test_a_subclass_of_the_hamiltonian_is_not_saved_as_one(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot save a _Damped"):
        save_model(_Damped(LieTransformer.default(num_layers=1)), tmp_path / "model")
