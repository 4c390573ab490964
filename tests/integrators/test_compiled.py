"""Compiled blocks: the same trajectory, also after the weights have changed; no gradients, and said so."""

from __future__ import annotations

import shutil

import pytest
import torch

from lie_sim import Hamiltonian, LieTransformer, Particles
from lie_sim.integrators import Compiled, SystemDynamics, advance, get_method, odeint
from lie_sim.neighbors import neighbour_matrix
from lie_sim.systems import Springs

ROUND_OFF = 1e-12  # other kernels round otherwise; measured: 1e-15


def pairs(potential, batch: int = 2):
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(batch, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return Hamiltonian(potential).bind(Particles(masses=torch.ones(batch, 3, dtype=torch.float64))), q, p


def difference(dynamics, q, p, method, **options) -> float:
    with torch.no_grad():
        fast = advance(dynamics, q, p, method=method, **options)
        slow = advance(dynamics, q, p, method=method.method, **options)
    return max(float((a - b).abs().max()) for a, b in zip(fast[:2], slow[:2], strict=True))


@pytest.mark.parametrize("name", ["leapfrog", "pefrl", "symplectic_euler", "blanes_moan6"])
def test_same_trajectory_step_for_step(name, pair_potential) -> None:
    """No block, a part of one, whole ones, and whole ones with a part; they are traced once."""
    dynamics, q, p = pairs(pair_potential)
    method = Compiled(get_method(name), block=2, backend="none")
    steps = torch.tensor([0.02, -0.01], dtype=torch.float64)
    for num_steps in (0, 1, 4, 7):
        for step_size in (0.02, steps):
            error = difference(dynamics, q, p, method, step_size=step_size, num_steps=num_steps)
            assert error < ROUND_OFF, f"{num_steps} steps of {step_size}: {error:.1e}"


def test_step_and_weights_stay_free(pair_potential) -> None:
    """Traced once; another step, another state and changed weights are seen by the same block."""
    dynamics, q, p = pairs(pair_potential)
    method = Compiled(get_method("leapfrog"), block=4, backend="none")
    assert difference(dynamics, q, p, method, step_size=0.02, num_steps=8) < ROUND_OFF
    with torch.no_grad():
        for parameter in pair_potential.parameters():
            parameter.mul_(1.5)
    assert difference(dynamics, q + 0.1, p, method, step_size=0.03, num_steps=8) < ROUND_OFF


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_really_compiled(pair_potential) -> None:
    dynamics, q, p = pairs(pair_potential, batch=1)
    method = Compiled(get_method("leapfrog"), block=2)
    assert difference(dynamics, q, p, method, step_size=0.02, num_steps=5) < ROUND_OFF


def test_through_the_door_and_without_gradients() -> None:
    state, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(0))
    dynamics = SystemDynamics(Springs(num_particles=3), particles)
    t = torch.tensor([0.0, 0.05], dtype=torch.float64)
    options = {"step_size": 0.01, "compile": True}  # 5 steps: less than a block
    with torch.no_grad():
        q, _ = odeint(dynamics, (state.q, state.p), t, method="leapfrog", options=options)
        expected, _ = odeint(dynamics, (state.q, state.p), t, method="leapfrog", options={"step_size": 0.01})
    assert torch.equal(q, expected)
    with pytest.raises(ValueError, match="compiled blocks have no gradients"):
        odeint(dynamics, (state.q.requires_grad_(True), state.p), t, method="leapfrog", options=options)


def test_weights_that_want_gradients_are_not_forgotten(pair_potential) -> None:
    dynamics, q, p = pairs(pair_potential)
    with pytest.raises(ValueError, match="compiled blocks have no gradients"):
        advance(
            dynamics,
            q,
            p,
            step_size=0.1,
            num_steps=4,
            method=Compiled(get_method("leapfrog"), backend="none"),
        )


def test_a_model_that_searches_neighbours_needs_them_given() -> None:
    """Tracing fixes what is computed, and a search looks at numbers."""
    generator = torch.Generator().manual_seed(0)
    cell = Particles(
        masses=torch.ones(1, 4), cell=4 * torch.eye(2)[None], pbc=torch.ones(1, 2, dtype=torch.bool)
    )
    q = 4 * torch.rand(1, 4, 2, generator=generator)
    torch.manual_seed(0)
    model = Hamiltonian(LieTransformer.default(dim=2, width=8, num_heads=2, num_layers=1, cutoff=1.5))
    run = {"step_size": 0.01, "num_steps": 4}
    fast = Compiled(get_method("leapfrog"), block=4, backend="none")
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"it searches neighbours at every call.*give them"):
            advance(model.bind(cell), q, 0 * q, method=fast, **run)
        bound = model.bind(cell, neighbour_matrix(q, cell, cutoff=1.5))
        found, expected = (advance(bound, q, 0 * q, method=m, **run)[0] for m in (fast, "leapfrog"))
    assert (found - expected).abs().max() < 1e-6  # float32; measured: 0


def test_masses_changed_in_place_are_seen() -> None:
    system = Springs(num_particles=3)
    state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
    dynamics, fast = (
        SystemDynamics(system, particles),
        Compiled(get_method("leapfrog"), block=4, backend="none"),
    )
    run = {"step_size": 0.01, "num_steps": 8}
    with torch.no_grad():
        dynamics.velocity(state.p)  # keeps 1/m, which the block then takes as a constant
        advance(dynamics, state.q, state.p, method=fast, **run)
        particles.masses.mul_(3.0)
        found, expected = (
            advance(dynamics, state.q, state.p, method=m, **run)[0] for m in (fast, "leapfrog")
        )
    assert (found - expected).abs().max() < 1e-13  # measured: 0


def test_other_methods_are_refused() -> None:
    with pytest.raises(TypeError, match="compiled blocks are for splitting methods, not for baoab"):
        Compiled(get_method("baoab"))
    with pytest.raises(ValueError, match="block must be at least 1"):
        Compiled(get_method("leapfrog"), block=0)
