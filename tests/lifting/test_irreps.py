"""Spherical harmonics as e3nn has them, exact in float64 whatever the module went through, and smooth at the origin."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.errors import MissingPackageError
from lie_sim.lifting import HarmonicLift, SphericalHarmonics, representations
from lie_sim.lifting.irreps import MomentsOf
from lie_sim.lifting.moments import DirectionMoments
from lie_sim.state import Particles

o3 = pytest.importorskip("e3nn.o3")
ROUND_OFF = {torch.float64: 1e-13, torch.float32: 1e-5}
"""Of polynomials of degree 4 with coefficients up to 10."""
LMAX = 4


@pytest.fixture(scope="module", autouse=True)
def _double() -> Iterator[None]:
    """Matrices of representations are as exact as the default dtype of the moment (e3nn 0.6)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", ROUND_OFF)
def test_they_are_those_of_e3nn(dtype: torch.dtype) -> None:
    """Also after a conversion to float32 and back."""
    u = torch.randn(100, 3, dtype=dtype)
    expected = o3.spherical_harmonics(list(range(LMAX + 1)), u, normalize=False, normalization="component")
    for harmonics in (SphericalHarmonics(LMAX), SphericalHarmonics(LMAX).float()):
        error = ((harmonics(u) - expected).abs() / u.norm(dim=1, keepdim=True) ** LMAX).max()
        assert error < ROUND_OFF[dtype], f"{error:.1e}"


@given(seed=st.integers(0, 2**31 - 1), reflect=st.booleans())
def test_they_turn_by_the_matrices_of_their_representations(seed: int, reflect: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation) * (-1 if reflect else 1)
    u = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    harmonics, start = SphericalHarmonics(LMAX), 0
    before, after = harmonics(u), harmonics(u @ rotation.T)
    for name in representations(LMAX, "natural"):
        irrep = o3.Irrep(name)
        part = slice(start, start + irrep.dim)
        turned = before[:, part] @ irrep.D_from_matrix(rotation).T
        error = (after[:, part] - turned).abs().max() / before[:, part].norm(dim=1).max()
        assert error < 1e-11, f"{name}: {error:.1e}"
        start += irrep.dim


def test_the_directions_of_pairs_are_smooth_where_particles_meet() -> None:
    lift = HarmonicLift(3, lmax=3, cutoff=2.0).double()
    particles = Particles(masses=torch.ones(1, 2, dtype=torch.float64))

    def directions(q: torch.Tensor) -> torch.Tensor:
        found = lift(q, particles, None, torch.ones(1, 2, 1, dtype=q.dtype)).directions
        assert found is not None
        return found

    q = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(directions, (q,))
    assert torch.autograd.gradgradcheck(directions, (q,), fast_mode=True)


def test_the_plane_is_that_of_z_0() -> None:
    flat = torch.randn(1, 4, 2)
    particles, scalars = Particles(masses=torch.ones(1, 4)), torch.ones(1, 4, 1)
    both = [
        HarmonicLift(dim, lmax=2, radial="polynomial")(q, particles, None, scalars).directions
        for dim, q in ((2, flat), (3, torch.cat([flat, torch.zeros(1, 4, 1)], -1)))
    ]
    assert torch.equal(both[0], both[1])


def test_a_parity_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown parity 'odd'; choose one of natural, both, none"):
        representations(1, "odd")


def test_without_e3nn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e3nn", None)
    with pytest.raises(MissingPackageError, match=r"need the package e3nn .*pip install 'lie_sim\[se3\]'"):
        SphericalHarmonics(1)


@pytest.mark.parametrize("parity", ["natural", "none"])
def test_matrices_of_degree_2_become_those_of_moments(parity: str) -> None:
    """Y² of a direction is a multiple of its matrix without the trace, and keeps its length."""
    convert, directions = MomentsOf(parity).float().double(), torch.randn(6, 3)
    units = directions / directions.norm(dim=-1, keepdim=True)
    harmonics = SphericalHarmonics(2)(units)[..., None]
    number, vector, matrix = harmonics.split([1, 3, 5], dim=1)
    found = convert(
        dict(zip(convert.names, (number[:, None], vector[:, None], matrix[:, None]), strict=True))
    )
    expected = DirectionMoments(3)(units)
    expected[:, [4, 7, 9]] -= expected[:, [4, 7, 9]].mean(1, keepdim=True)
    expected = expected / expected[:, 4:].norm(dim=1, keepdim=True) * matrix.norm(dim=1)
    assert (found[:, 0, 4:, 0] - expected[:, 4:]).abs().max() < ROUND_OFF[torch.float64]
    assert torch.equal(found[:, 0, :4, 0], harmonics[:, :4, 0])
