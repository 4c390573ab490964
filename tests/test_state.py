"""PhaseState and Particles: round trips, conversions, checked shapes."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from lie_sim.state import Particles, PhaseState


def everything():
    return Particles(
        masses=torch.rand(2, 3),
        species=torch.tensor([[1, 2, 3], [4, 5, 6]]),
        attributes=torch.rand(2, 3, 4),
        mask=torch.tensor([[True, True, False], [True, False, False]]),
        cell=torch.rand(2, 2, 2),
        pbc=torch.tensor([[True, False], [False, False]]),
    )


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (4, 2), (3, 3)])
def test_flatten_round_trip(count, dim):
    state = PhaseState(q=torch.randn(5, count, dim), p=torch.randn(5, count, dim), t=torch.rand(5))
    z = state.flatten()
    assert z.shape == (5, 2 * count * dim)
    assert torch.equal(z[:, 0], state.q[:, 0, 0])
    back = PhaseState.unflatten(z, count, t=state.t)
    assert torch.equal(back.q, state.q)
    assert torch.equal(back.p, state.p)
    assert torch.equal(back.t, state.t)


def test_to_changes_floating_fields_only():
    particles = everything().to(dtype=torch.float64)
    assert particles.masses.dtype == particles.attributes.dtype == particles.cell.dtype == torch.float64
    assert particles.species.dtype == torch.int64
    assert particles.mask.dtype == particles.pbc.dtype == torch.bool
    assert everything().to(device="cpu").masses.dtype == torch.float32
    assert PhaseState(q=torch.zeros(1, 1, 1), p=torch.zeros(1, 1, 1)).to(dtype=torch.float64).t is None


def test_systems_are_selected_and_repeated():
    particles = everything()
    assert particles.num_particles == 3
    second = particles[1:]
    assert torch.equal(second.species, torch.tensor([[4, 5, 6]]))
    assert second.cell.shape == (1, 2, 2)
    chosen = particles[torch.tensor([1, 0, 1])]
    assert torch.equal(chosen.masses, particles.masses[[1, 0, 1]])
    repeated = particles.expand(2)
    assert torch.equal(repeated.mask, particles.mask[[0, 0, 1, 1]])


def test_containers_cannot_be_changed():
    with pytest.raises(AttributeError):
        everything().masses = torch.ones(2, 3)


@pytest.fixture
def _unchecked_signatures():
    """Leave the check to the classes, as outside the tests; here jaxtyping would come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_unchecked_signatures")
def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"same shape \(B, N, d\); got \(1, 2, 3\) and \(1, 2, 2\)"):
        PhaseState(q=torch.zeros(1, 2, 3), p=torch.zeros(1, 2, 2))


@pytest.mark.usefixtures("_unchecked_signatures")
@pytest.mark.parametrize("name", ["species", "attributes", "mask"])
def test_shapes_must_agree_with_the_masses(name):
    wrong = {
        "species": torch.zeros(1, 2, dtype=torch.long),
        "attributes": torch.zeros(1, 2, 1),
        "mask": torch.ones(1, 2, dtype=torch.bool),
    }[name]
    with pytest.raises(ValueError, match=rf"particles.{name} must begin with the shape \(B, N\) = \(1, 3\)"):
        Particles(masses=torch.ones(1, 3), **{name: wrong})


def test_a_target_given_twice_is_refused() -> None:
    particles = Particles(masses=torch.ones(1, 2))
    assert particles.to("cpu", dtype=torch.float64).masses.dtype == torch.float64
    with pytest.raises(TypeError, match="dtype is given twice"):
        particles.to(torch.float64, dtype=torch.float32)
    with pytest.raises(TypeError, match="device is given twice, meta and cpu"):
        particles.to("meta", device="cpu")
