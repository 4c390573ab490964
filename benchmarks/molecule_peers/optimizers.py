"""Optimisers of the peers: PyTorch's AdamW, and our Muon on whatever of a peer's weights is a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

Parts = Sequence[tuple[nn.Parameter, list[tuple[slice, tuple[int, int]]]]]
"""Parameters, and which parts of the row of their numbers are matrices of which shape."""


class Optimizer(Protocol):
    """What a trainer asks of an optimiser."""

    def step(self, *, learning_rate: float) -> None:
        """Update the weights by their gradients."""


class AdamW:
    """PyTorch's AdamW (fused) without decay.

    Args:
        parameters: all weights.
        amsgrad: as MACE's default has it.
    """

    def __init__(self, parameters: Sequence[Tensor], *, amsgrad: bool = False) -> None:
        self.inner = torch.optim.AdamW(
            parameters, lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999), amsgrad=amsgrad, fused=True
        )

    def step(self, *, learning_rate: float) -> None:
        """One update."""
        for group in self.inner.param_groups:
            group["lr"] = learning_rate
        self.inner.step()


class Muon:
    """:class:`lie_sim.training.muon.Muon`, which takes matrices; here they can be parts of a parameter.

    Args:
        parameters: all weights.
        matrices: which of them are matrices, or consist of some.
    """

    def __init__(self, parameters: Sequence[Tensor], matrices: Parts) -> None:
        from lie_sim.training.muon import Muon as Ours

        self.parts: list[tuple[nn.Parameter, slice, Tensor]] = []
        for parameter, parts in matrices:
            row = parameter.detach().view(-1)
            for part, shape in parts:
                self.parts.append((parameter, part, row[part].view(shape).requires_grad_()))
        known = {id(parameter) for parameter, _ in matrices}
        others = [p for p in parameters if id(p) not in known]
        self.inner = Ours([view for *_, view in self.parts] + others, betas=(0.9, 0.999), weight_decay=0.0)

    def step(self, *, learning_rate: float) -> None:
        """One update; the parts share their memory with the parameters."""
        for parameter, part, view in self.parts:
            if parameter.grad is not None:
                view.grad = parameter.grad.reshape(-1)[part].view(view.shape)
        self.inner.step(learning_rate=learning_rate)
