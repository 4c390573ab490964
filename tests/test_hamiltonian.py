"""Hamiltonians: equations of motion, solvers, adjoint gradients, learned masses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchdiffeq import odeint, odeint_adjoint

from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.models import LieTransformer
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles, PhaseState

ROUNDING = 1e-12
ADJOINT_TOLERANCE = 1e-5  # dopri5 at rtol = atol = 1e-7, forward and back
RK4_DRIFT = 1e-6  # of the energy, step 0.01 over unit time
DOPRI5_DRIFT = 1e-7  # of the energy at rtol = 1e-9


class Spring(EnergyModel):
    """V = ½ k Σ |q|², an exactly solvable potential with one parameter."""

    name = "test_spring"

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(4.0, dtype=torch.float64))

    def forward(self, q, particles, neighbours=None):
        return self.stiffness / 2 * q.square().sum(-1)


def system(batch=2, count=3, dim=2):
    q, p = torch.randn(2, batch, count, dim, dtype=torch.float64)
    particles = Particles(
        masses=0.5 + torch.rand(batch, count, dtype=torch.float64),
        attributes=torch.randn(batch, count, 2, dtype=torch.float64),
    )
    return q, p, particles


def learned():
    model = LieTransformer.default(dim=2, width=8, num_heads=2, kernel_hidden=8).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


TIMES = torch.linspace(0, 1, 5, dtype=torch.float64)


def test_equations_of_motion():
    q, p, particles = system()
    H = Hamiltonian(Spring()).bind(particles)
    dq, dp = H.vector_field(torch.tensor(0.0), (q, p))
    assert torch.allclose(dq, p / particles.masses[..., None], rtol=0, atol=ROUNDING)
    assert torch.allclose(dp, -4 * q, rtol=0, atol=ROUNDING)
    kinetic = (p.square().sum(-1) / (2 * particles.masses)).sum(-1)
    assert torch.allclose(H.kinetic_energy(p), kinetic)
    assert torch.allclose(H.energy(PhaseState(q=q, p=p)), kinetic + 2 * q.square().sum((1, 2)))


def test_trajectory_of_the_harmonic_oscillator():
    q, p, particles = system()
    H = Hamiltonian(Spring()).bind(particles)
    with torch.no_grad():
        qs, _ = odeint(H.vector_field, (q, p), TIMES, method="dopri5", rtol=1e-9, atol=1e-9)
    omega = (4 / particles.masses).sqrt()[..., None]
    exact = q * (omega * 1.0).cos() + p / (particles.masses[..., None] * omega) * (omega * 1.0).sin()
    assert float((qs[-1] - exact).abs().max()) < 1e-7


@pytest.mark.parametrize(
    ("method", "options", "drift"),
    [
        ("rk4", {"options": {"step_size": 0.01}}, RK4_DRIFT),
        ("dopri5", {"rtol": 1e-9, "atol": 1e-9}, DOPRI5_DRIFT),
    ],
)
def test_solvers_conserve_the_learned_energy(method, options, drift):
    q, p, particles = system(batch=1)
    H = Hamiltonian(learned()).bind(particles)
    times = TIMES if method == "dopri5" else torch.linspace(0, 0.2, 3, dtype=torch.float64)
    with torch.no_grad():
        qs, ps = odeint(H.vector_field, (q, p), times, method=method, **options)
        start, end = (H.energy(PhaseState(q=qs[i], p=ps[i])) for i in (0, -1))
    assert float((qs[-1] - q).abs().max()) > 0.05
    assert float(((end - start) / H.kinetic_energy(p)).abs().max()) < drift


@pytest.mark.parametrize("make", [Spring, learned])
def test_adjoint_gradients_are_those_of_backpropagation(make):
    q, p, particles = system(batch=1, count=2)
    H = Hamiltonian(make(), masses="learned", num_attributes=2).double().bind(particles)
    times = torch.tensor([0.0, 0.3], dtype=torch.float64)
    gradients = []
    for solve in (odeint, odeint_adjoint):
        start = q.clone().requires_grad_(True)
        qs, _ = solve(H, (start, p), times, method="dopri5", rtol=1e-7, atol=1e-7)
        gradients.append(
            torch.autograd.grad(qs[-1].square().sum(), [start, *H.parameters()], allow_unused=True)
        )
    scale = max(float(g.abs().max()) for g in gradients[0] if g is not None)
    for direct, adjoint in zip(*gradients, strict=True):
        if direct is None or adjoint is None:
            assert direct is None or float(direct.abs().max()) == 0
            assert adjoint is None or float(adjoint.abs().max()) == 0
            continue
        assert float((direct - adjoint).abs().max()) < ADJOINT_TOLERANCE * scale


def test_force_follows_the_grad_mode():
    q, _, particles = system()
    H = Hamiltonian(learned())
    with torch.no_grad():
        detached = H.force(q, particles)
    assert not detached.requires_grad
    attached = H.force(q, particles)  # the parameters require gradients, q does not
    assert torch.allclose(attached.detach(), detached, rtol=0, atol=ROUNDING)
    attached.square().sum().backward()
    assert any(parameter.grad is not None for parameter in H.parameters())
    leaf = q.clone().requires_grad_(True)
    second = torch.autograd.grad(H.force(leaf, particles).square().sum(), leaf)[0]
    assert float(second.abs().max()) > 0
    assert not H.force(leaf, particles, create_graph=False).requires_grad
    with torch.no_grad():
        assert H.force(leaf, particles, create_graph=True).requires_grad


def test_force_is_minus_the_gradient_of_the_potential():
    q, _, particles = system()
    H = Hamiltonian(learned()).bind(particles)
    step = torch.zeros_like(q)
    step[:, 1, 0] = 1e-5
    slope = (H.potential_energy(q + step) - H.potential_energy(q - step)) / 2e-5
    assert torch.allclose(H.force(q)[:, 1, 0], -slope, rtol=1e-6, atol=1e-8)


def test_bound_neighbours_are_used():
    q, p, particles = system()
    model = LieTransformer.default(dim=2, cutoff=1.5, width=8, num_heads=2).double()
    cell = 4.0 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    crystal = Particles(masses=particles.masses, cell=cell)
    neighbours = neighbour_matrix(q, crystal, cutoff=1.5)
    H = Hamiltonian(model)
    expected = H.force(q, crystal, neighbours)
    assert torch.equal(H.bind(crystal, neighbours).vector_field(torch.tensor(0.0), (q, p))[1], expected)


def test_padding_has_no_energy_and_feels_no_force():
    q, p, particles = system()
    mask = torch.tensor([[True, True, False]]).expand(2, -1)
    padded = Particles(masses=particles.masses, mask=mask)
    H = Hamiltonian(learned()).bind(padded)
    short = Particles(masses=particles.masses[:, :2])
    state, inner = PhaseState(q=q, p=p), PhaseState(q=q[:, :2], p=p[:, :2])
    assert torch.allclose(H.energy(state), H.energy(inner, short), rtol=0, atol=ROUNDING)
    assert bool((H.force(q)[:, 2] == 0).all())


def test_learned_masses_are_positive_shared_and_trainable():
    _, p, particles = system()
    H = Hamiltonian(learned(), masses="learned", num_attributes=2).double()
    masses = H.particle_masses(particles)
    assert masses.shape == (2, 3)
    assert bool((masses > 0).all())
    swapped = Particles(masses=particles.masses, attributes=particles.attributes.flip(1))
    assert torch.allclose(H.particle_masses(swapped), masses.flip(1))
    assert torch.allclose(H.velocity(p, particles), p / masses[..., None])
    optimiser = torch.optim.Adam(H.parameters(), lr=0.02)
    before = None
    for _ in range(20):
        optimiser.zero_grad()
        loss = (H.velocity(p, particles) - p / particles.masses[..., None]).square().sum()
        before = float(loss.detach()) if before is None else before
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.7 * before


def test_binding_shares_the_weights_and_keeps_the_mode():
    _, _, particles = system()
    H = Hamiltonian(learned(), masses="learned", num_attributes=2).double().eval()
    bound = H.bind(particles)
    assert {id(x) for x in bound.parameters()} == {id(x) for x in H.parameters()}
    assert not bound.training
    assert "_particles" not in H.state_dict()
    with pytest.raises(ValueError, match="does not know the particles"):
        H.vector_field(torch.tensor(0.0), (torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)))


def test_general_hamiltonian_agrees_with_the_separable_one():
    q, p, particles = system()
    separable = Hamiltonian(learned())
    general = GeneralHamiltonian(
        lambda q, p, particles: separable.energy(PhaseState(q=q, p=p), particles)
    ).bind(particles)
    expected = separable.bind(particles).vector_field(torch.tensor(0.0), (q, p))
    found = general(torch.tensor(0.0), (q, p))
    assert torch.allclose(found[0], expected[0], rtol=0, atol=ROUNDING)
    assert torch.allclose(found[1], expected[1], rtol=0, atol=ROUNDING)
    assert not general.separable
    assert separable.separable
    assert torch.equal(
        general.energy(PhaseState(q=q, p=p)), separable.energy(PhaseState(q=q, p=p), particles)
    )


def test_general_hamiltonian_of_a_rotating_frame():
    """H = |p|²/2 − ω (q × p): non-separable, solved by straight lines seen from the rotating frame."""
    q, p, particles = system()
    omega = 0.7

    def rotating(q, p, particles):
        return (p.square().sum(-1) / 2 - omega * (q[..., 0] * p[..., 1] - q[..., 1] * p[..., 0])).sum(-1)

    H = GeneralHamiltonian(rotating).bind(particles)
    with torch.no_grad():
        qs, _ = odeint(H, (q, p), TIMES, method="dopri5", rtol=1e-9, atol=1e-9)
    turn = torch.tensor(omega, dtype=torch.float64)
    back = torch.stack([torch.stack([turn.cos(), turn.sin()]), torch.stack([-turn.sin(), turn.cos()])])
    assert float((qs[-1] - (q + p) @ back.mT).abs().max()) < 1e-7


def test_parameters_of_a_general_hamiltonian_are_registered():
    model = learned()
    H = GeneralHamiltonian(model)
    assert len(list(H.parameters())) == len(list(model.parameters()))


def test_a_constant_potential_exerts_no_force():
    q, p, particles = system()
    H = GeneralHamiltonian(lambda q, p, particles: torch.zeros(2, dtype=torch.float64)).bind(particles)
    dq, dp = H.vector_field(torch.tensor(0.0), (q, p))
    assert bool((dq == 0).all())
    assert bool((dp == 0).all())


def test_errors_say_what_to_do():
    q, p, particles = system()
    with pytest.raises(ValueError, match=r"Hamiltonian does not know the particles: pass particles="):
        Hamiltonian(Spring()).force(q)
    with pytest.raises(ValueError, match="GeneralHamiltonian does not know the particles"):
        GeneralHamiltonian(lambda q, p, particles: q.sum((1, 2))).vector_field(torch.tensor(0.0), (q, p))
    with pytest.raises(ValueError, match='masses must be "known" or "learned", got \'fixed\''):
        Hamiltonian(Spring(), masses="fixed")
    with pytest.raises(ValueError, match="give num_attributes >= 1"):
        Hamiltonian(Spring(), masses="learned")
    without = Particles(masses=particles.masses)
    with pytest.raises(ValueError, match=r"learned masses need particles.attributes"):
        Hamiltonian(Spring(), masses="learned", num_attributes=1).particle_masses(without)


def test_partial_derivatives_of_variables_that_depend_on_each_other() -> None:
    q = torch.ones(1, 1, 1, requires_grad=True)
    hamiltonian = GeneralHamiltonian(lambda q, p, particles: p.square().sum((1, 2)) / 2)
    hamiltonian = hamiltonian.bind(Particles(masses=torch.ones(1, 1)))
    dq, dp = hamiltonian.vector_field(torch.tensor(0.0), (q, 2 * q))
    assert (dq.item(), dp.item()) == (2.0, 0.0)


def test_padding_without_mass_has_no_kinetic_energy() -> None:
    hamiltonian = Hamiltonian(LieTransformer.default(dim=2))
    particles = Particles(masses=torch.tensor([[2.0, 0.0]]), mask=torch.tensor([[True, False]]))
    p = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    assert hamiltonian.kinetic_energy(p, particles).item() == 1.0
