"""What makes two runs the same: digests of model, initial state and particles, method and steps.

    motion = digest of  (dq/dt, dp/dt, H)  at the initial state, to the bit

A run in a directory is continued only by one of the same manifest. What does not change its frames, such as the bound
of the drift watch or the number of frames of a block, is not part of it. Names, weights and options say *what* has
changed; the motion at the start also finds what they cannot know: a plain attribute of a potential, other code.

Shape letters: B batch, N particles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lie_sim.data.storage import tensors_digest
from lie_sim.driven import DrivenHamiltonian
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import Clocked, Method
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout.chunk import BoundSystem, Chunk
from lie_sim.state import PhaseState
from lie_sim.systems import System

if TYPE_CHECKING:
    from lie_sim.rollout.runner import Rollout

_NOT_OF_THE_FRAMES = ("citation", "on_failure")
"""Of a method: a run that ended with an error may go on with ``on_failure="nan"``."""
NOT_REPRODUCIBLE = "not the same twice"
"""The motion of a model that draws random numbers: no digest of it can be found again."""


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
    method, model = run.chosen_method(), run.hamiltonian
    others = {"trajectories": trajectories, **_tensors_of(neighbours)}
    particles = {
        f"{k}.{name}": x for k, c in enumerate(chunks) for name, x in _particles_of(c.system).items()
    }
    return {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "weights": tensors_digest(dict(model.state_dict()) if isinstance(model, nn.Module) else {}),
        "buffers": tensors_digest(_unsaved_buffers(model)),
        "options": repr(model) if isinstance(model, System) else _architecture(model),
        "start": tensors_digest(_start(state, chunks)),
        "particles": tensors_digest(particles),
        "method": method.name,
        "method_options": {name: repr(value) for name, value in _facts(method).items()},
        "others": tensors_digest({name: x for name, x in others.items() if x is not None}),
        "divergence_bound": run.divergence_bound,
        "step_size": float(run.step_size),
        "substeps": run.substeps,
        "save_every": save_every,
        "batch_size": run.batch_size,
        "compile": run.compile,
        "dtype": str(state.q.dtype),
        "motion": motion(chunks),
    }


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What makes a stored run another one, in words; "" if they are the same.

    Args:
        found: the manifest of the stored run.
        wanted: that of the run that would continue it.

    Example:
        >>> difference({"substeps": 1, "motion": "a"}, {"substeps": 2, "motion": "b"})
        'substeps differs'
    """
    differing = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    causes = [key for key in differing if key != "motion"] or differing  # another motion is their effect
    if not causes:
        return ""
    return f"{', '.join(causes)} {'differs' if len(causes) == 1 else 'differ'}{_why(causes, found)}"


def _why(causes: Sequence[str], found: Mapping[str, Any]) -> str:
    """What the name of the entry does not tell."""
    if [*causes] != ["motion"]:
        return ""
    if "motion" not in found:
        return " (an older version of lie_sim stored none)"
    return (
        " (names, weights and options are the same, but force, velocity or energy at the initial state are not: an "
        "attribute of the model or its code has changed, or the machine, its device or the number of threads)"
    )


def motion(chunks: Sequence[Chunk]) -> str:
    """Digest of force, velocity and energy where the chunks are now; ``NOT_REPRODUCIBLE`` if they are random."""
    devices = {chunk.q.device for chunk in chunks if chunk.q.device.type == "cuda"}
    with torch.random.fork_rng([*devices]):
        first, again = (tensors_digest(_rates(chunks)) for _ in range(2))
    return first if first == again else NOT_REPRODUCIBLE


def _rates(chunks: Sequence[Chunk]) -> dict[str, Tensor]:
    found = {}
    for k, chunk in enumerate(chunks):
        dq, dp = chunk.system.vector_field(torch.zeros((), dtype=chunk.q.dtype), (chunk.q, chunk.p))
        energy = chunk.system.energy(PhaseState(q=chunk.q, p=chunk.p))
        for name, x in (("dq", dq), ("dp", dp), ("energy", energy)):
            found[f"{k}.{name}"] = x.masked_fill(x.isnan(), torch.nan)  # one NaN of many
    return found


def _start(state: PhaseState, chunks: Sequence[Chunk]) -> dict[str, Tensor]:
    """The initial states; with their times, if it matters when a run begins."""
    own = {"q": state.q, "p": state.p}
    if any(isinstance(chunk.system, Clocked) for chunk in chunks) and state.t is not None:
        own["t"] = state.t
    return own


def _facts(method: Method) -> dict[str, Any]:
    """Options and, as of a splitting method, coefficients."""
    names = [field.name for field in fields(method)] if is_dataclass(method) else [*method.options()]
    return {name: getattr(method, name) for name in names if name not in _NOT_OF_THE_FRAMES}


def _unsaved_buffers(model: object) -> dict[str, Tensor]:
    """Buffers that ``state_dict`` leaves out."""
    if not isinstance(model, nn.Module):
        return {}
    saved = model.state_dict()
    return {name: x for name, x in model.named_buffers() if name not in saved}


def _particles_of(system: BoundSystem) -> dict[str, Tensor]:
    owner = system.system if isinstance(system, Clocked) else system
    return _tensors_of(getattr(owner, "particles", None) or getattr(owner, "_particles", None))


def _tensors_of(container: object) -> dict[str, Tensor]:
    return {} if container is None else {k: x for k, x in vars(container).items() if isinstance(x, Tensor)}


def _architecture(model: Hamiltonian) -> str:
    """The potentials and their configurations: weights alone do not make a model."""
    potentials: list[object] = [model.potential]
    if isinstance(model, DrivenHamiltonian):
        potentials += [*model.drives, model.time]
    return "; ".join(
        f"{type(each).__module__}.{type(each).__qualname__}({getattr(each, 'config', '')!r})"
        for each in potentials
    )
