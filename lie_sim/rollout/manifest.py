"""What makes two runs the same: digests of model, initial state and particles, method and steps.

A run in a directory is continued only by one of the same manifest. What does not change its frames, such as the bound
of the drift watch or the number of frames of a block, is not part of it.

Shape letters: B batch, N particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lie_sim.data.storage import tensors_digest
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import get_method
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout.chunk import BoundSystem, Chunk
from lie_sim.state import PhaseState
from lie_sim.systems import System

if TYPE_CHECKING:
    from lie_sim.rollout.runner import Rollout


def manifest(
    run: Rollout,
    state: PhaseState,
    chunks: Sequence[Chunk],
    *,
    save_every: int,
    neighbours: NeighbourMatrix | None,
    trajectories: Tensor | None,
) -> dict[str, Any]:
    """Everything that the frames of a run depend on, as plain values.

    Args:
        run: Hamiltonian, method and step.
        state: initial positions and momenta.
        chunks: the systems, with their particles.
        save_every: steps between two frames.
        neighbours: pairs that interact.
        trajectories: names of the systems.
    """
    method, model = get_method(run.method), run.hamiltonian
    others = {"trajectories": trajectories, **_tensors_of(neighbours)}
    particles = {
        f"{k}.{name}": x for k, c in enumerate(chunks) for name, x in _particles_of(c.system).items()
    }
    return {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "weights": tensors_digest(dict(model.state_dict()) if isinstance(model, nn.Module) else {}),
        "options": repr(model) if isinstance(model, System) else _architecture(model),
        "start": tensors_digest({"q": state.q, "p": state.p}),
        "particles": tensors_digest(particles),
        "method": method.name,
        "method_options": {name: repr(value) for name, value in method.options().items()},
        "others": tensors_digest({name: x for name, x in others.items() if x is not None}),
        "divergence_bound": run.divergence_bound,
        "step_size": float(run.step_size),
        "substeps": run.substeps,
        "save_every": save_every,
        "batch_size": run.batch_size,
        "compile": run.compile,
        "dtype": str(state.q.dtype),
    }


def _particles_of(system: BoundSystem) -> dict[str, Tensor]:
    return _tensors_of(getattr(system, "particles", None) or getattr(system, "_particles", None))


def _tensors_of(container: object) -> dict[str, Tensor]:
    return {} if container is None else {k: x for k, x in vars(container).items() if isinstance(x, Tensor)}


def _architecture(model: Hamiltonian) -> str:
    """The potential and its configuration: weights alone do not make a model."""
    potential = model.potential
    return (
        f"{type(potential).__module__}.{type(potential).__qualname__}({getattr(potential, 'config', '')!r})"
    )
