"""One evaluation of a potential for a batch, with the features of its last layer where they are wanted.

Shape letters: B batch, D features.
"""

from __future__ import annotations

from dataclasses import replace

from lie_sim.calculators.conversion import Structures
from lie_sim.models import AtomicPotential, Evaluation, evaluate
from lie_sim.models.last_layer import LastLayer

FEATURES = "last_features"
"""Name under which the features stand among the properties, shape (B, D)."""


def evaluated(
    potential: AtomicPotential, layer: LastLayer | None, batch: Structures, *, virials: bool
) -> Evaluation:
    """Energies, forces and properties, and virials if wanted.

    Args:
        potential: the model.
        layer: of this potential, or None where features are not wanted.
        batch: the systems.
        virials: whether to compute them; the batch needs neighbours then.
    """
    arguments = batch.q, batch.particles, batch.neighbours
    if layer is None:
        return evaluate(potential, *arguments, virials=virials)
    with layer.watched():
        found = evaluate(potential, *arguments, virials=virials)
    features = layer.features(batch.particles).detach()
    return replace(found, properties={**found.properties, FEATURES: features})
