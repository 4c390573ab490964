"""SiLU with cheap first and second derivatives.

    y = x σ(x),     y′ = σ (1 + x (1 − σ)),     y″ = σ (1 − σ) (2 + x (1 − 2σ))

A force model differentiates its energy twice. PyTorch then records SiLU's derivative as half a dozen elementary
operations and differentiates each of them; here the second pass is one closed formula, which halves the memory
of a training step. Derivatives of any order remain available: from the third on PyTorch's own rules apply. Forward mode
works too, alone, over and under reverse mode; nested in itself it reaches the second derivative.

Reference: Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units", Neural Networks 107 (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function


def _times_derivative(g: Tensor, x: Tensor) -> Tensor:
    """Product g y′(x) in one fused kernel, without a graph."""
    product: Tensor = torch.ops.aten.silu_backward(g, x)
    return product


def _first_derivative(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def _second_derivative(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


def _third_derivative(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    slope, bend = s * (1 - s), 1 - 2 * s
    return slope * (bend * (3 + x * bend) - 2 * x * slope)


class _SiLUGradientTangent(Function):
    """(ġ, ẋ, g, x) ↦ ġ y′(x) + ẋ g y″(x), the change of g y′(x).

    It refuses a third level of forward mode: PyTorch 2.13 does not follow plain operations inside a nested ``jvp``,
    and its own SiLU returns wrong numbers there.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(g_tangent: Tensor, x_tangent: Tensor, g: Tensor, x: Tensor) -> Tensor:
        return g_tangent * _first_derivative(x) + x_tangent * g * _second_derivative(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> NoReturn:
        raise NotImplementedError(
            "silu has no third derivative by forward mode (jvp, jacfwd) three deep, or two deep over a gradient: "
            "use reverse mode (grad, jacrev) for one of the outer two"
        )

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g_tangent, x_tangent, g, x = ctx.saved_tensors
        first, second = h * _first_derivative(x), h * _second_derivative(x)
        to_x = g_tangent * second + h * x_tangent * g * _third_derivative(x)
        return first, g * second, x_tangent * second, to_x


class _SiLUGradient(Function):
    """g ↦ g y′(x), with its own gradient in closed form."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, x: Tensor) -> Tensor:
        return _times_derivative(g, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, g_tangent: Tensor, x_tangent: Tensor) -> Tensor:
        tangent: Tensor = _SiLUGradientTangent.apply(g_tangent, x_tangent, *ctx.saved_tensors)
        return tangent

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> tuple[Tensor | None, Tensor | None]:
        g, x = ctx.saved_tensors
        if torch.is_grad_enabled():
            return gg * _first_derivative(x), gg * g * _second_derivative(x)
        to_g = _times_derivative(gg, x) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_g, None
        s = torch.sigmoid(x)
        curvature = torch.addcmul(x, x, s, value=-2).add_(2)  # 2 + x (1 − 2σ)
        curvature.mul_(torch.addcmul(s, s, s, value=-1))  # · σ (1 − σ)
        return to_g, (gg * g).mul_(curvature)  # in this order, lest a batch of gg meet a single x in place


class _SiLU(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return nn.functional.silu(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = _SiLUGradient.apply(x_tangent, x)
        return result

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            result: Tensor = _SiLUGradient.apply(g, x)
            return result
        return _times_derivative(g, x)


_ONCE = ContextVar("differentiated_once", default=False)


@contextmanager
def differentiated_once() -> Iterator[None]:
    """Within it :func:`silu` is PyTorch's own: a seventh faster for the forces of a small molecule.

    Values and first derivatives are the same to the bit, and higher ones are right but dear.

    Example:
        >>> with differentiated_once():
        ...     silu(torch.ones(1, requires_grad=True)).grad_fn.name()
        'SiluBackward0'
    """
    token = _ONCE.set(True)
    try:
        yield
    finally:
        _ONCE.reset(token)


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """X σ(x) of every element, any shape.

    Example:
        >>> silu(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.2689,  0.0000,  0.7311])
    """
    y: Tensor = nn.functional.silu(x) if _ONCE.get() else _SiLU.apply(x)
    return y


class SiLU(nn.Module):
    """:func:`silu` as a module."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply to every element."""
        return silu(x)
