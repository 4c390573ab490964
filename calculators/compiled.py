"""Evaluations as compiled functions: energies, forces and all else in one, traced once for each shape.

    (q, Z, attributes, mask, neighbours) ↦ (ε, F, …)        no Python and nothing of autograd in between

What the reverse pass executes is recorded together with the forward pass, so forces are outputs like any other. Weights
are part of the function. Shapes are fixed, hence padded: neighbours to the next of a few widths, batches of several
systems in all directions; a single system keeps its number of atoms. Compiling takes up to a minute for a new shape,
or seconds where the same was done before on this machine, and needs a C++ compiler on a CPU.

Shape letters: B batch, N atoms (padded), K neighbours (padded).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lie_sim.calculators.conversion import Structures
from lie_sim.calculators.evaluation import evaluated
from lie_sim.calculators.padding import padded, unpadded
from lie_sim.models import AtomicPotential, Evaluation
from lie_sim.models.last_layer import LastLayer
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.warning import warn

_Function = Callable[..., tuple[Tensor, ...]]
_Known = tuple[_Function, tuple[str, ...]]


class CompiledEvaluation:
    """A potential whose evaluations are compiled, or are not, if that fails.

    Args:
        potential: without gradients of its weights.
        layer: of this potential, where its features are wanted.
        backend: of ``torch.compile``; "none" runs the traced operations as they are.

    Attributes:
        functions: those that were made, by shape; the width K of the neighbours is the last number of a shape.

    Example:
        >>> from ase.build import molecule
        >>> from lie_sim.calculators import structures
        >>> potential = AtomicPotential.default(elements=(1, 8)).requires_grad_(False)
        >>> fast = CompiledEvaluation(potential, None, backend="none")
        >>> fast(structures([molecule("H2O")], potential, dtype=torch.float32), virials=False).forces.shape
        torch.Size([1, 3, 3])
    """

    def __init__(
        self, potential: AtomicPotential, layer: LastLayer | None, *, backend: str = "inductor"
    ) -> None:
        self._potential, self._layer, self._backend = potential, layer, backend
        self.functions: dict[Any, _Known] = {}
        self._failed = False

    def __getstate__(self) -> dict[str, Any]:
        """Without the functions, which other processes make for themselves."""
        return {**self.__dict__, "functions": {}}

    def __call__(self, batch: Structures, *, virials: bool) -> Evaluation:
        """As :func:`~lie_sim.calculators.evaluation.evaluated`; the first call for a shape compiles."""
        if not self._failed:
            wide = padded(batch, widths=self._widths(batch, virials))
            try:
                return unpadded(self._run(wide, virials), batch)
            except Exception as error:  # compilers fail in many ways, and the result does not need them
                self._failed = True
                warn(
                    f"compile=True has no effect, evaluations run as usual: {type(error).__name__}: "
                    f"{str(error)[:300]}",
                    RuntimeWarning,
                )
        return evaluated(self._potential, self._layer, batch, virials=virials)

    def _widths(self, batch: Structures, virials: bool) -> list[int]:
        """Widths K of the functions that are there for this batch and virials."""
        shape = batch.q.shape[:2]
        return [key[-1] for key in self.functions if key[:2] == (shape, virials) and key[-1]]

    def _run(self, batch: Structures, virials: bool) -> Evaluation:
        tensors = _flat(batch)
        width = 0 if batch.neighbours is None else batch.neighbours.index.shape[-1]
        key = (batch.q.shape[:2], virials, tuple(tensors), width)
        if key not in self.functions:
            self.functions[key] = self._made(batch, tensors, virials)
        function, names = self.functions[key]
        with torch.no_grad():
            found = dict(zip(names, function(*tensors.values()), strict=True))
        energies, forces, virials_found = (
            found.pop("energies"),
            found.pop("forces"),
            found.pop("virials", None),
        )
        return Evaluation(energies, forces, virials_found, properties=found)

    def _made(self, batch: Structures, tensors: dict[str, Tensor], virials: bool) -> _Known:
        names: tuple[str, ...] = ()

        def run(*values: Tensor) -> tuple[Tensor, ...]:
            nonlocal names
            whole = _filled(batch, dict(zip(tensors, values, strict=True)))
            found = evaluated(self._potential, self._layer, whole, virials=virials)
            outputs = {"energies": found.energies, "forces": found.forces, **found.properties}
            if found.virials is not None:
                outputs["virials"] = found.virials
            names = tuple(outputs)
            return tuple(outputs.values())

        traced = make_fx(run)(*(x.clone() for x in tensors.values()))
        traced.graph.eliminate_dead_code()
        traced.recompile()
        if self._backend == "none":
            return traced, names
        return torch.compile(traced, backend=self._backend, fullgraph=True, dynamic=False), names


def _flat(batch: Structures) -> dict[str, Tensor]:
    """The tensors of a batch by name."""
    particles, neighbours = batch.particles, batch.neighbours
    named: dict[str, Tensor | None] = {"q": batch.q, "masses": particles.masses, "species": particles.species}
    named |= {"attributes": particles.attributes, "mask": particles.mask}
    if neighbours is not None:
        named |= {"index": neighbours.index, "listed": neighbours.mask, "shift": neighbours.shift}
    return {name: value for name, value in named.items() if value is not None}


def _filled(batch: Structures, tensors: dict[str, Tensor]) -> Structures:
    """A batch with other tensors in the place of its own."""
    own = {name: tensors.get(name) for name in ("species", "attributes", "mask")}
    particles = replace(batch.particles, masses=tensors["masses"], **own)
    neighbours = None
    if batch.neighbours is not None:
        neighbours = NeighbourMatrix(
            tensors["index"], tensors["listed"], tensors.get("shift"), batch.neighbours.cutoff
        )
    return replace(batch, q=tensors["q"], particles=particles, neighbours=neighbours)
