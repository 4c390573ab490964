"""What a run remembers and starts with: declared names, names of trajectories that key the noise, no systems at all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lie_sim import PhaseState
from lie_sim.integrators import (
    ConstrainedDynamics,
    DistanceConstraints,
    Method,
    SystemDynamics,
    advance,
    integrate,
    methods,
    odeint,
)
from lie_sim.systems import HeavyTop, Springs


def springs() -> tuple[PhaseState, SystemDynamics]:
    system = Springs(num_particles=3)
    state, particles = system.sample(3, generator=torch.Generator().manual_seed(1))
    return state, SystemDynamics(system, particles)


def memory_after_steps(method: Method) -> dict[str, Tensor]:
    if method.name == "rattle":
        constraint = DistanceConstraints(torch.tensor([[0, 1]]), torch.ones(1, dtype=torch.float64))
        _, dynamics = springs()
        constrained = ConstrainedDynamics(dynamics, constraint)
        q = torch.arange(3, dtype=torch.float64)[None, :, None].expand(3, 3, 2) / 2**0.5
        return advance(constrained, q, 0 * q, step_size=0.01, num_steps=1, method=method)[2]
    try:
        state, dynamics = springs()
        return advance(dynamics, state.q, state.p, step_size=0.01, num_steps=1, method=method)[2]
    except TypeError:  # it moves rigid bodies
        g, mu = HeavyTop().sample(2, generator=torch.Generator().manual_seed(0))
        return advance(HeavyTop(), g, mu, step_size=0.01, num_steps=1, method=method)[2]


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_memory_is_what_the_method_declares(method: Method) -> None:
    assert method.remembers is not None
    assert set(memory_after_steps(method)) <= set(method.remembers)


@pytest.mark.parametrize("kind", ["baoab", "csvr"])
def test_names_of_trajectories_key_the_noise(kind: str) -> None:
    """Through every door, the gradients included."""
    state, dynamics = springs()
    options = {"step_size": 0.1, "num_steps": 4, "method": kind}
    names = torch.tensor([5, 1, 9])
    q, _ = integrate(dynamics, state.q, state.p, trajectory=names, **options)
    last = SystemDynamics(dynamics.system, dynamics.particles[2:])
    alone, _ = integrate(last, state.q[2:], state.p[2:], trajectory=names[2:], **options)
    assert torch.equal(alone, q[2:])
    assert not torch.equal(integrate(last, state.q[2:], state.p[2:], **options)[0], q[2:])
    t = torch.linspace(0, 0.4, 5, dtype=torch.float64)
    start = state.q.clone().requires_grad_(True)
    slopes = []
    for adjoint in ("autograd", "checkpoint"):
        x, _ = odeint(
            dynamics, (start, state.p), t, method=kind, options={"trajectory": names}, adjoint=adjoint
        )
        assert (x.detach().transpose(0, 1) - q).abs().max() < 1e-12  # steps of 0.1 in t and as a number
        slopes.append(torch.autograd.grad(x.square().sum(), start)[0])
    assert (slopes[0] - slopes[1]).abs().max() < 1e-10  # of slopes of order 10
    with pytest.raises(ValueError, match=r"one name per system, shape \(3,\); got torch.int64, shape \(2,\)"):
        odeint(dynamics, (state.q, state.p), t, method=kind, options={"trajectory": names[:2]})
    with pytest.raises(ValueError, match="leapfrog draws no noise"):
        integrate(dynamics, state.q, state.p, trajectory=names, step_size=0.1, num_steps=1)


PARTICLE_METHODS = [
    m for m in methods() if m.remembers and m.name != "rattle" and "wrench" not in m.remembers
]


@pytest.mark.parametrize("method", PARTICLE_METHODS, ids=lambda method: method.name)
def test_no_systems_are_a_batch_too(method: Method) -> None:
    state, dynamics = springs()
    none = SystemDynamics(dynamics.system, dynamics.particles[:0])
    q, p = state.q[:0], state.p[:0]
    t = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    q, p = odeint(none, (q, p), t, method=method, options={"step_size": 0.1})
    assert q.shape == p.shape == (3, 0, 3, 2)
    if not method.adaptive:
        q, p = integrate(none, state.q[:0], state.p[:0], step_size=0.1, num_steps=2, method=method)
        assert q.shape == p.shape == (0, 3, 3, 2)
