"""Hamiltonians that depend on time: what they compute, learn, conserve and keep on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck

from lie_sim import DrivenHamiltonian, Hamiltonian, LieTransformer, load_model, save_model
from lie_sim.descriptions import fingerprint
from lie_sim.distributed import Run, simulate, verify
from lie_sim.errors import CheckpointError
from lie_sim.integrators import odeint
from lie_sim.models.base import EnergyModel
from lie_sim.models.fully_connected import FullyConnected, FullyConnectedConfig
from lie_sim.rollout import Rollout
from lie_sim.state import Particles, PhaseState
from lie_sim.time_encoding import BochnerTime, MercerTime
from lie_sim.training import ForceTask, TrainingConfig, train

SMALL: dict[str, Any] = {"dim": 2, "width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8}


def model(seed: int = 0) -> LieTransformer:
    torch.manual_seed(seed)
    made = LieTransformer.default(**SMALL)
    for parameter in made.parameters():  # the last layer begins at zero
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def driven(frequencies: tuple[float, ...] = (1.7,)) -> DrivenHamiltonian:
    time = BochnerTime(frequencies)
    return DrivenHamiltonian(model(), [model(k + 1) for k in range(time.num_features)], time).double()


def systems(count: int = 2) -> tuple[PhaseState, Particles]:
    draw = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, count, 3, 2, generator=draw, dtype=torch.float64)
    masses = 1 + torch.rand(count, 3, generator=draw, dtype=torch.float64)
    return PhaseState(q, p, torch.linspace(0.4, 9.0, count, dtype=torch.float64)), Particles(masses=masses)


def test_it_is_the_sum_that_it_says() -> None:
    H, (state, particles) = driven((1.7, 0.3)), systems()
    assert state.t is not None
    expected = H.kinetic_energy(state.p, particles) + H.potential.energy(state.q, particles)
    for a, drive in enumerate(H.drives):
        assert isinstance(drive, EnergyModel)
        expected = expected + H.time(state.t)[:, a] * drive.energy(state.q, particles)
    assert torch.allclose(H.energy(state, particles), expected, atol=1e-12)
    now = H.energy(PhaseState(state.q, state.p), particles).detach()
    assert torch.allclose(now, H.energy(PhaseState(state.q, state.p, torch.zeros(2).double()), particles))
    assert float((now - expected.detach()).abs().max()) > 1e-4


def test_force_and_power_are_derivatives_and_have_derivatives() -> None:
    H, (state, particles) = driven(), systems()
    bound = H.bind(particles)
    assert state.t is not None
    q, t = state.q.clone().requires_grad_(True), state.t.clone().requires_grad_(True)
    assert isinstance(bound, DrivenHamiltonian)
    dq, dt = torch.autograd.grad(bound.potential_energy(q, t=t).sum(), (q, t))
    force, power = bound.force_and_power(state.q, t.detach())
    assert torch.allclose(force, -dq)
    assert torch.allclose(power, dt)
    assert gradcheck(bound.force_and_power, (q, t), atol=1e-6)
    bound.force(state.q, t=t.detach()).square().sum().backward()
    frequency = H.time.shift.grad
    assert frequency is not None
    assert float(frequency.abs().max()) > 0
    with torch.no_grad():
        assert not bound.force(state.q, t=t.detach()).requires_grad


def test_turned_and_moved_systems_have_turned_forces() -> None:
    H, (state, particles) = driven(), systems()
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    there = H.force(state.q @ turn.T + 3.0, particles, t=state.t)
    assert float((there - H.force(state.q, particles, t=state.t) @ turn.T).abs().max().detach()) < 1e-10


def test_h_plus_work_is_conserved_at_the_order_of_the_method() -> None:
    H, (state, particles) = driven(), systems()
    drifts = [
        float(
            Rollout(H, "leapfrog", h)
            .run(state, round(2 / h), particles=particles, save_every=round(2 / h))
            .drift.max()
        )
        for h in (0.02, 0.01)
    ]
    assert drifts[0] / drifts[1] == pytest.approx(4.0, rel=0.15)


def test_its_rollout_is_that_of_torchdiffeq() -> None:
    H, (state, particles) = driven(), systems(1)
    t = torch.linspace(0.4, 1.0, 3, dtype=torch.float64)
    bound = H.bind(particles)
    with torch.no_grad():
        ours = odeint(bound, (state.q, state.p), t, method="yoshida4", options={"step_size": 0.02})
        theirs = odeint(bound, (state.q, state.p), t, method="dopri5", rtol=1e-7, atol=1e-9)
        as_module = odeint(
            bound.vector_field, (state.q, state.p), t, method="rk4", options={"step_size": 0.01}
        )
    for a, b, c in zip(ours, theirs, as_module, strict=True):
        assert float((a - b).abs().max()) < 1e-5
        assert float((b - c).abs().max()) < 1e-5


def test_training_through_a_rollout_reaches_every_weight() -> None:
    H, (state, particles) = driven(), systems()
    t = torch.linspace(0, 0.5, 3, dtype=torch.float64)
    gradients = []
    for adjoint in ("autograd", "reversible"):
        H.zero_grad()
        q, _ = odeint(
            H.bind(particles),
            (state.q, state.p),
            t,
            method="leapfrog",
            options={"step_size": 0.05},
            adjoint=adjoint,
        )
        q[-1].square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in H.named_parameters() if p.grad is not None})
    assert "time.shift" in gradients[0]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][k], gradients[1][k], atol=1e-9) for k in gradients[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_kept_on_disk(dtype: torch.dtype, tmp_path: Path) -> None:
    time = MercerTime([1.7], degree=1)
    H = DrivenHamiltonian(model(), [model(k) for k in range(3)], time, masses="known").to(dtype)
    save_model(H, tmp_path)
    again = load_model(tmp_path)
    assert type(again) is DrivenHamiltonian
    assert fingerprint(again) == fingerprint(H)
    assert torch.equal(again.time.frequencies, H.time.frequencies)
    state, particles = systems()
    there, here = (each.force(state.q.to(dtype), particles.to(dtype=dtype), t=state.t) for each in (again, H))
    assert torch.equal(there, here)
    changed = DrivenHamiltonian(model(), [model(9), *(model(k) for k in (1, 2))], time).to(dtype)
    assert fingerprint(changed) != fingerprint(H)


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    save_model(driven(), tmp_path)
    path = tmp_path / "model.json"
    from lie_sim import checkpoint

    for change in ({"drives": []}, {"time": "fourier"}, {"drives": [{"config": {}}] * 2}):
        content = json.loads(path.read_text())
        del content["digest"]
        content["options"] |= change
        path.write_text(json.dumps(content | {"digest": checkpoint._digest(content)}))
        with pytest.raises(CheckpointError, match="does not make a model"):
            load_model(tmp_path)
        save_model(driven(), tmp_path)


def test_simulate_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    H, (state, particles) = driven(), systems(4)
    options: dict[str, Any] = {
        "steps": 40,
        "dt": 0.02,
        "save_every": 5,
        "chunk": 2,
        "segment": 10,
        "method": "leapfrog",
    }
    whole = simulate(H, (state, particles), store=tmp_path / "whole", **options)
    assert whole.status().complete
    assert verify(whole).sound
    part = simulate(H, (state, particles), store=tmp_path / "part", wait=False, **options)
    for _, _ in zip(part.work(), range(3), strict=False):
        pass
    Run(tmp_path / "part").finish()
    expected = Rollout(H, "leapfrog", 0.02)
    frames: list[Any] = []
    expected.run(state, 40, particles=particles, save_every=5, on_frames=frames.append)
    for k in range(4):
        there, here = (Run(tmp_path / name).trajectory(k) for name in ("whole", "part"))
        assert (there.q[:] == here.q[:]).all()
        assert abs(there.q[:] - frames[0].q[k].numpy()).max() < 1e-10
    assert state.t is not None
    later = PhaseState(state.q, state.p, state.t + 1.0)
    with pytest.raises(Exception, match="initial states differ"):
        simulate(H, (later, particles), store=tmp_path / "whole", **options)


def test_forces_at_irregular_times_are_learned() -> None:
    draw = torch.Generator().manual_seed(1)
    t = 20 * torch.rand(400, generator=draw)
    q = torch.randn(400, 1, 1, generator=draw)
    force = -q + (2.0 * t).cos()[:, None, None]
    data = {"q": q, "t": t, "force": force, "particles.masses": torch.ones(400, 1)}
    config = FullyConnectedConfig(num_particles=1, dim=1, width=16, num_layers=2, centred=False)
    torch.manual_seed(0)
    time = BochnerTime.from_samples(t, force[:, 0], 1)
    H = DrivenHamiltonian(FullyConnected(config), [FullyConnected(config) for _ in range(2)], time)
    training = TrainingConfig(max_steps=400, batch_size=100, learning_rate=1e-2)
    errors = {
        name: train(made, ForceTask(data, data), training, progress=False).best_metric
        for name, made in (("driven", H), ("still", Hamiltonian(FullyConnected(config))))
    }
    assert errors["driven"] < 0.01
    assert errors["still"] > 0.2


def test_what_is_impossible_is_named() -> None:
    with pytest.raises(ValueError, match="got 1 drives and 2 features"):
        DrivenHamiltonian(model(), [model()], BochnerTime([1.0]))
    H, (state, particles) = driven(), systems()
    for call in (H.potential_energy, H.force):
        with pytest.raises(ValueError, match="depends on time: give t="):
            call(state.q, particles)
    samples = {"q": state.q, "force": state.q, "t": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"forces need particles\.masses"):
        ForceTask(samples, samples)
    samples["particles.masses"] = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"t must have shape \(2,\), got \(3,\)"):
        ForceTask(samples, samples | {"t": torch.zeros(3)})
