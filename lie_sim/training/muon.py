"""Muon: momentum whose singular values are made equal, for the matrices of a network; AdamW for all other weights.

    M ← μM + (1−μ)G,    N = (1−μ)G + μM                       (Nesterov)
    X ← N/‖N‖_F,  five times  X ← aX + (bXXᵀ + c(XXᵀ)²)X      singular values to about 1: X ≈ UVᵀ of N = UΣVᵀ
    θ ← (1 − ηλ)θ − 0.2 η √max(rows, columns) X                root mean square near that of an AdamW step

Every direction of a layer moves equally fast, also those in which the gradient is small. On force fields that takes a
quarter of AdamW's steps or less to the same error; matrices of one shape are done in one batch.

References: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with a, b, c;
Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982 (the factor 0.2 √max).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lie_sim.training.adamw import AdamW

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_SMALLEST_SIDE = 4
"""Embeddings of a few species and readouts to one number are no mixing matrices: AdamW does them."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with their singular values moved to between 0.7 and 1.2; tiny ones stay below.

    Example:
        >>> x = orthogonalise(torch.tensor([[[3.0, 0.0], [0.0, 1.0]]]))
        >>> bool((torch.linalg.svdvals(x) - 1).abs().max() < 0.35)
        True
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + torch.finfo(x.dtype).tiny)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Optimiser of a list of weights, with the interface of :class:`~lie_sim.training.adamw.AdamW`.

    Args:
        parameters: the weights; those with two axes of at least 4 are matrices.
        betas: β₁ and β₂ of AdamW.
        weight_decay: λ, of both.
        momentum: μ.
        other_rate: learning rate of AdamW's part, in units of that of the matrices.

    Example:
        >>> weight = torch.zeros(4, 4, requires_grad=True)
        >>> optimizer = Muon([weight], betas=(0.9, 0.999), weight_decay=0.0)
        >>> (weight * torch.eye(4)).sum().backward()
        >>> optimizer.step(learning_rate=1.0)
        >>> bool((weight.diagonal() < -0.2).all())
        True
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float = 0.95,
        other_rate: float = 0.25,
    ) -> None:
        self.parameters, self.weight_decay = list(parameters), weight_decay
        self.momentum, self.other_rate = momentum, other_rate
        self._matrices = [p for p in parameters if p.ndim == 2 and min(p.shape) >= _SMALLEST_SIDE]
        self._momenta = [torch.zeros_like(p, requires_grad=False) for p in self._matrices]
        known = {id(p) for p in self._matrices}
        self._others = AdamW(
            [p for p in parameters if id(p) not in known], betas=betas, weight_decay=weight_decay
        )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, *, learning_rate: float) -> None:
        """Update the weights by their gradients; a weight without one is left as it is."""
        if any(p.grad is not None for p in self._others.parameters):
            self._others.step(learning_rate=learning_rate * self.other_rate)
        shapes: dict[torch.Size, list[int]] = {}
        for number, parameter in enumerate(self._matrices):
            if parameter.grad is not None:
                shapes.setdefault(parameter.shape, []).append(number)
        for shape, numbers in shapes.items():
            self._step_matrices(shape, numbers, learning_rate)

    def _step_matrices(self, shape: torch.Size, numbers: list[int], learning_rate: float) -> None:
        weights = [self._matrices[number] for number in numbers]
        momenta = [self._momenta[number] for number in numbers]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        ahead = torch.stack(gradients).lerp(torch.stack(momenta), self.momentum)
        size = 0.2 * learning_rate * max(shape) ** 0.5
        torch._foreach_mul_(weights, 1 - learning_rate * self.weight_decay)
        torch._foreach_add_(weights, list(orthogonalise(ahead).unbind()), alpha=-size)

    def tensors(self) -> dict[str, Tensor]:
        """The momenta, and what AdamW keeps, by name; views, not copies."""
        mine = {f"momentum.{number}": momentum for number, momentum in enumerate(self._momenta)}
        return mine | self._others.tensors()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what :meth:`tensors` gave back in."""
        for name, mine in self.tensors().items():
            mine.copy_(tensors[name])
