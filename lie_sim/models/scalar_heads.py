r"""Heads for numbers that do not grow with the molecule, and for sums over its atoms.

    intensive   y = mean + scale · MLP(p),      p_h = Σ_i α_ih V_h f_i,      α_ih = softmax_i(w_h·f_i)
    extensive   y = Σ_i (reference(Z_i) + scale · (w·f_i + MLP(f_i)))

The attention of a few heads lets an orbital energy be that of the group which has the orbital; one head has equal
weights and tells the mean. Other readouts take for p the sum, the mean, or the mean over the atoms that
:class:`~lie_sim.pooling.SAGPool` keeps. Sums are taken in float64, for total energies can be tens of thousands of eV.

Shape letters: B batch, N particles, C channels, H pooling heads.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.models.atomic_config import LARGEST_ATOMIC_NUMBER, HeadConfig
from lie_sim.models.head_inputs import HeadInputs
from lie_sim.pooling import Pooled, SAGPool

POOLING_HEADS = 4
_SAG_MODES = {"sag": "hard", "soft_sag": "soft"}


class AtomOutputs(nn.Module):
    """Numbers of every atom, W f + MLP(f), which begin at 0."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.hidden = nn.Linear(width, outputs), nn.Linear(width, width)
        self.out = nn.Linear(width, outputs, bias=False)
        for weight in (self.linear.weight, self.linear.bias, self.out.weight):
            nn.init.zeros_(weight)

    def forward(self, f: Float[Tensor, "B N C"]) -> Float[Tensor, "B N outputs"]:
        """Apply to the last axis."""
        linear: Tensor = self.linear(f)
        correction: Tensor = self.out(silu(self.hidden(f)))
        return linear + correction


class ElementTable(nn.Module):
    """Constants of the elements, by atomic number, in float64 whatever the dtype of the model.

    Args:
        elements: atomic numbers.
        values: as many constants as elements, times ``columns``, column after column; empty means 0.
        columns: constants of each element.
    """

    table: Tensor

    def __init__(self, elements: tuple[int, ...], values: tuple[float, ...], columns: int = 1) -> None:
        super().__init__()
        table = torch.zeros(LARGEST_ATOMIC_NUMBER + 1, columns, dtype=torch.float64)
        if values:
            given = torch.tensor(values, dtype=torch.float64)
            table[torch.tensor(elements)] = given.reshape(columns, len(elements)).T
        self.register_buffer("table", table, persistent=False)

    def _apply(self, fn: object, recurse: bool = True) -> ElementTable:
        table = self.table
        super()._apply(fn, recurse)
        self.table = table.to(self.table.device)
        return self

    def forward(self, inputs: HeadInputs) -> Float[Tensor, "B N columns"]:
        """Constants of every atom, 0 for padding."""
        found: Tensor = self.table[inputs.numbers]
        return found


class IntensiveHead(nn.Module):
    """A number that does not grow with the molecule; see the module's equation.

    Args:
        config: mean, scale and readout.
        width: C.
    """

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__()
        self.mean, self.scale, self.readout = config.mean, config.scale, config.readout
        if self.readout == "attention":
            self.weigh = nn.Linear(width, POOLING_HEADS - 1)
        elif self.readout in _SAG_MODES:
            self.pool = SAGPool(width, mode=_SAG_MODES[self.readout])
        self.value = nn.Linear(width, width)
        self.read = AtomOutputs(width, 1)

    def forward(self, inputs: HeadInputs) -> Float[Tensor, " B"]:
        """The number of each molecule, float64."""
        number: Tensor = self.read(self._pooled(inputs)[:, None])[:, 0, 0]
        return self.mean + self.scale * number.double()

    def _pooled(self, inputs: HeadInputs) -> Float[Tensor, "B C"]:
        """What is read of each molecule."""
        values: Tensor = self.value(inputs.f)
        if self.readout == "attention":
            return self._attended(inputs, values)
        if self.readout in _SAG_MODES:
            points = values.repeat_interleave(inputs.pairs.num_lifts, dim=1)
            pooled: Pooled = self.pool(points, inputs.pairs, inputs.mask)
            return pooled.mean()
        total: Tensor = torch.where(inputs.mask[..., None], values, 0.0).sum(1)
        return total if self.readout == "sum" else total / inputs.mask.sum(1, keepdim=True).clamp(min=1)

    def _attended(self, inputs: HeadInputs, values: Tensor) -> Tensor:
        logits: Tensor = self.weigh(inputs.f)
        logits = torch.cat([torch.zeros_like(logits[..., :1]), logits], dim=-1)
        nowhere = torch.finfo(logits.dtype).min  # not −∞, of which a molecule without atoms would make NaN
        weights = logits.masked_fill(~inputs.mask[..., None], nowhere).softmax(1)
        parts = values.unflatten(-1, (POOLING_HEADS, -1))
        attended: Tensor = (weights[..., None] * parts).sum(1).flatten(-2)
        return attended


class ExtensiveHead(nn.Module):
    """A sum over atoms; see the module's equation.

    Args:
        config: scale, and a reference of each element.
        width: C.
        elements: atomic numbers.
    """

    def __init__(self, config: HeadConfig, width: int, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = config.scale
        self.references = ElementTable(elements, config.references)
        self.read = AtomOutputs(width, 1)

    def forward(self, inputs: HeadInputs) -> Float[Tensor, " B"]:
        """The sum of each molecule, float64."""
        each: Tensor = self.scale * self.read(inputs.f).double() + self.references(inputs)
        return inputs.summed(each)[:, 0]
