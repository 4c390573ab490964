"""AdamW, as one fused call for all weights.

    g: gradient    m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²
    θ ← (1 − ηλ)θ − η m̂ / (√v̂ + ε),    m̂ = m/(1−β₁ᵗ),    v̂ = v/(1−β₂ᵗ)

Same kernel and same numbers as ``torch.optim.AdamW(fused=True)``, whose constructor imports the compiler of
torch (4 CPU-seconds at the start of every process, torch 2.13); the moments are plain lists, easy to save.

Reference: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_EPSILON = 1e-8


class AdamW:
    """Optimiser of a list of weights; a weight without a gradient is left as it is.

    Args:
        parameters: the weights.
        betas: β₁ and β₂.
        weight_decay: λ.

    Example:
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = AdamW([weight], betas=(0.9, 0.99), weight_decay=0.0)
        >>> (3 * weight).sum().backward()
        >>> optimizer.step(learning_rate=0.1)
        >>> weight.detach()
        tensor([0.9000])
    """

    def __init__(
        self, parameters: Sequence[Tensor], *, betas: tuple[float, float], weight_decay: float
    ) -> None:
        self.parameters, self.betas, self.weight_decay = list(parameters), betas, weight_decay
        self._first = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self._second = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self._steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, *, learning_rate: float) -> None:
        """Update the weights by their gradients."""
        gradients = {number: p.grad for number, p in enumerate(self.parameters) if p.grad is not None}
        used = list(gradients)
        steps = [self._steps[number] for number in used]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            [self.parameters[number] for number in used],
            list(gradients.values()),
            [self._first[number] for number in used],
            [self._second[number] for number in used],
            [],
            steps,
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The moments and step counts by name; views, not copies."""
        kinds = {"first": self._first, "second": self._second, "steps": self._steps}
        return {f"{kind}.{number}": t for kind, tensors in kinds.items() for number, t in enumerate(tensors)}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what :meth:`tensors` gave back in."""
        for name, mine in self.tensors().items():
            mine.copy_(tensors[name])
