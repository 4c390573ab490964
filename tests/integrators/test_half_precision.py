"""States of half precision cannot be stepped back, and say so; float32 is let off with the root of its precision."""

from __future__ import annotations

import pytest
import torch

from lie_sim.integrators import SystemDynamics, odeint, odeint_adjoint
from lie_sim.systems import Springs

T = torch.tensor([0.0, 1.0])


def springs(dtype: torch.dtype):
    state, particles = Springs(num_particles=3).sample(1, generator=torch.Generator().manual_seed(0))
    state, particles = state.to(dtype=dtype), particles.to(dtype=dtype)
    return SystemDynamics(Springs(num_particles=3), particles), state.q.requires_grad_(True), state.p


def slope(door, dtype: torch.dtype, **options) -> torch.Tensor:
    dynamics, q, p = springs(dtype)
    x, _ = door(dynamics, (q, p), T, options={"step_size": 0.05}, **options)
    return torch.autograd.grad(x[-1].square().sum(), q)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["leapfrog", "nose_hoover_chain"])
def test_half_precision_is_not_stepped_back(dtype, name) -> None:
    with pytest.raises(ValueError, match=rf"float32 or float64, got {dtype}.*checkpoint.*q\.float\(\)"):
        slope(odeint, dtype, method=name, adjoint="reversible")
    assert torch.equal(
        slope(odeint_adjoint, dtype, method="leapfrog"),
        slope(odeint, dtype, method="leapfrog", adjoint="checkpoint"),
    )


def test_float32_is_stepped_back() -> None:
    back, plain = (
        slope(odeint, torch.float32, method="leapfrog", adjoint=a) for a in ("reversible", "autograd")
    )
    assert (back - plain).abs().max() < 1e-5 * plain.abs().max()  # measured: 1.2e-7
