"""HaarLift: exact for a trivial stabiliser, an average over fixed samples otherwise."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lie_sim.groups import group, random_transform
from lie_sim.groups.rotations import matrix_from_quaternion
from lie_sim.lifting import HaarLift
from lie_sim.models import LieTransformer
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

ROUNDING = 1e-12
SLOPE_TOLERANCE = 0.15  # three standard errors of the slopes below, 72 draws each
SAMPLED = ((2, "SE(2)"), (3, "SO(3)"), (3, "SE(3)"))


def system(dim, batch=2, count=4):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(batch, count, dim, generator=generator, dtype=torch.float64)
    return q, Particles(masses=torch.ones(batch, count, dtype=torch.float64)), q.new_zeros(batch, count, 0)


@pytest.mark.parametrize(
    ("name", "trivial"),
    [
        ("T(2)", True),
        ("T(3)", True),
        ("T(2)xTrivial(2)", True),
        ("SO(2)", True),
        ("R>0xSO(2)", True),
        ("C4", True),
        ("D3", True),
        ("O", True),
        ("SO(3)", False),
        ("O(2)", False),
        ("O(3)", False),
        ("SE(2)", False),
        ("SE(3)", False),
        ("E(3)", False),
        ("T(2)xC4", False),
    ],
)
def test_the_stabiliser_is_trivial_where_all_its_samples_are_the_identity(name, trivial):
    chosen = group(name)
    samples = chosen.stabiliser_random((50,), 0, dtype=torch.float64)
    identity = chosen.identity(dtype=torch.float64)
    assert chosen.stabiliser_is_trivial is trivial
    assert bool(torch.isclose(samples, identity, atol=1e-6).flatten(1).all(1).all()) is trivial


@pytest.mark.parametrize(("dim", "name"), [(2, "T(2)"), (2, "SO(2)"), *SAMPLED])
def test_location_is_the_log_of_the_relative_pose_and_the_orbits(dim, name):
    chosen = group(name)
    lifts = 1 if chosen.stabiliser_is_trivial else 3
    lifting = HaarLift(chosen, num_lifts=lifts)
    q, particles, scalars = system(dim)
    elements = lifting._lift(q)
    origin = chosen.origin(q).repeat_interleave(lifts, dim=1)
    assert torch.allclose(chosen.act(elements, origin), q.repeat_interleave(lifts, 1), rtol=0, atol=ROUNDING)
    pairs = lifting(q, particles, None, scalars)
    expected = chosen.log(chosen.compose(chosen.inverse(elements)[:, :, None], elements[:, None]))
    assert torch.allclose(pairs.location[..., : chosen.dim], expected, rtol=0, atol=1e-9)
    orbits = chosen.orbit_coordinates(q).repeat_interleave(lifts, 1)
    if chosen.orbit_dim:
        assert torch.equal(pairs.location[:, :, 0, chosen.dim : -chosen.orbit_dim], orbits)
        assert torch.equal(pairs.location[:, 0, :, -chosen.orbit_dim :], orbits)
    assert pairs.location.shape[-1] == lifting.location_dim


def test_the_relative_pose_can_be_a_translation_and_a_quaternion():
    lifting = HaarLift(group("SE(3)"), num_lifts=3, pose="quaternion")
    q, particles, scalars = system(3)
    location = lifting(q, particles, None, scalars).location
    u = lifting._lift(q)
    turn = u[..., :3, :3].mT[:, :, None] @ u[:, None, :, :3, :3]
    assert location.shape[-1] == lifting.location_dim == 7
    origin = q.repeat_interleave(3, 1)
    shift = (origin[:, None] - origin[:, :, None]) @ u[:, :, :3, :3]
    assert torch.allclose(location[..., :3], shift, rtol=0, atol=ROUNDING)
    assert torch.allclose(matrix_from_quaternion(location[..., 3:]), turn, rtol=0, atol=ROUNDING)
    assert float(location[..., 3].min()) >= 0


@pytest.mark.parametrize(("dim", "name"), SAMPLED)
def test_samples_stay_until_resampled(dim, name):
    lifting = HaarLift(group(name), num_lifts=2, seed=3)
    q, particles, scalars = system(dim)
    first = lifting(q, particles, None, scalars).location
    torch.rand(7)  # the global generator plays no part
    assert torch.equal(lifting(q, particles, None, scalars).location, first)
    lifting.resample(4)
    assert not torch.allclose(lifting(q, particles, None, scalars).location, first)
    lifting.resample(3)
    assert torch.equal(lifting(q, particles, None, scalars).location, first)


@pytest.mark.parametrize(("dim", "name"), SAMPLED)
def test_samples_of_a_particle_do_not_depend_on_how_many_follow(dim, name):
    lifting = HaarLift(group(name), num_lifts=3)
    q = torch.randn(1, 40, dim, dtype=torch.float64)
    assert torch.equal(lifting._lift(q[:, :5]), lifting._lift(q)[:, :15])


def spread_over_transforms(dim, name, lifts):
    """Standard deviation of E(gx) over group elements and samples, root mean square over inputs."""
    torch.manual_seed(0)
    options = {
        "width": 4,
        "num_heads": 1,
        "num_layers": 1,
        "kernel_hidden": 4,
        "mean_neighbours": 3.0 * lifts,
    }
    model = LieTransformer.default(dim=dim, lifting="haar", group=name, num_lifts=lifts, **options).double()
    q, _, _ = system(dim, batch=4, count=3)
    copies = q.repeat_interleave(6, dim=0)
    particles = Particles(masses=torch.ones(copies.shape[:2], dtype=torch.float64))
    energies = []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        for seed in range(12):
            model.backbone.lifting.resample(seed)
            turned = random_transform(name, copies, 100 + seed)
            energies.append(model.energy(turned, particles).reshape(4, 6))
    return float(torch.cat(energies, 1).var(1).mean().sqrt())


@pytest.mark.parametrize(("dim", "name"), SAMPLED)
def test_error_falls_with_the_square_root_of_the_number_of_lifts(dim, name):
    """Slope −1/2 in log-log; from few lifts it is steeper: pairs of a particle with itself add a term 1/L."""
    spread = [spread_over_transforms(dim, name, lifts) for lifts in (1, 4, 16)]
    few, many = (math.log(b / a) / math.log(4) for a, b in itertools.pairwise(spread))
    assert few < -0.5 + SLOPE_TOLERANCE, f"spreads {spread} for L = 1, 4, 16"
    assert many == pytest.approx(-0.5, abs=SLOPE_TOLERANCE), f"spreads {spread} for L = 1, 4, 16"


def test_squash_shortens_but_does_not_turn():
    q, particles, scalars = system(3)
    plain = HaarLift(group("SE(3)"), num_lifts=2)(q, particles, None, scalars).location
    short = HaarLift(group("SE(3)"), num_lifts=2, squash=2.0)(q, particles, None, scalars).location
    length = plain.norm(dim=-1, keepdim=True)
    assert torch.allclose(short * length, plain * torch.tanh(length / 2), rtol=0, atol=1e-5)


def test_impossible_lifts_are_refused():
    with pytest.raises(ValueError, match=r"T\(2\) has a trivial stabiliser: num_lifts must be 1, got 2"):
        HaarLift(group("T(2)"), num_lifts=2)
    with pytest.raises(ValueError, match="num_lifts must be at least 1, got 0"):
        HaarLift(group("SE(2)"), num_lifts=0)
    q, particles, scalars = system(2)
    some = NeighbourMatrix(torch.zeros(2, 4, 1, dtype=torch.long), torch.ones(2, 4, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="use FrameLift with a neighbour matrix"):
        HaarLift(group("T(2)"))(q, particles, some, scalars)
