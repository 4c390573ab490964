"""What a stored run is continued from: the same model to the bit, all of its blocks, every block handed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, Particles, PhaseState
from lie_sim.errors import ConfigError, ConvergenceError, DataError
from lie_sim.integrators import Method, SplittingMethod, get_method
from lie_sim.models.base import EnergyModel
from lie_sim.rollout import Rollout, StoredRollout, rollout
from lie_sim.systems import Springs

SYSTEM = Springs(num_particles=3)
RUN = Rollout(SYSTEM, "leapfrog", 0.01, frames_per_block=4)


class Wells(EnergyModel):
    """V = k s Σ |q|² / 2, k a plain attribute, s a buffer that is not saved."""

    def __init__(self, stiffness: float = 1.0, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.stiffness, self.offset = stiffness, offset
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64), persistent=False)

    def forward(self, q: Tensor, particles: Particles, neighbours: object = None) -> Tensor:
        return self.offset + self.stiffness * self.scale * q.square().sum(-1) / 2


class Noisy(Wells):
    """A force that is another one each time."""

    def forward(self, q: Tensor, particles: Particles, neighbours: object = None) -> Tensor:
        return super().forward(q, particles) * torch.rand(())


class Quartic(EnergyModel):
    """V = a Σ q⁴ / 4, a an attribute of the particles."""

    def forward(self, q: Tensor, particles: Particles, neighbours: object = None) -> Tensor:
        assert particles.attributes is not None
        return (q**4).sum(-1) / 4 * particles.attributes[..., 0]


def springs(count: int = 3) -> tuple[PhaseState, Particles]:
    return SYSTEM.sample(count, generator=torch.Generator().manual_seed(0))


def store(folder: Path, model: EnergyModel, steps: int = 20, method: str | Method = "leapfrog") -> None:
    state, particles = springs()
    run = Rollout(Hamiltonian(model), method, 0.01, frames_per_block=4)
    run.run(state, steps, particles=particles, save_every=5, directory=folder)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Wells(stiffness=9.0), r"motion differs \(names, weights and options are the same, but force"),
        (Wells(offset=1.0), "motion differs"),
        (Wells(scale=9.0), "buffers, motion differ;"),
    ],
)
def test_what_the_weights_do_not_hold_makes_another_run(other: Wells, message: str, tmp_path: Path) -> None:
    store(tmp_path, Wells())
    with pytest.raises(ConfigError, match=message):
        store(tmp_path, other, 40)
    store(tmp_path, Wells(), 40)


def test_other_coefficients_of_one_name_make_another_run(tmp_path: Path) -> None:
    facts = {"name": "mine", "order": 2, "citation": "none"}
    store(tmp_path, Wells(), method=SplittingMethod(kicks=(0.5, 0.5), drifts=(1.0,), **facts))
    other = SplittingMethod(kicks=(0.3, 0.4, 0.3), drifts=(0.5, 0.5), **facts)
    with pytest.raises(ConfigError, match="method_options differs"):
        store(tmp_path, Wells(), 40, other)


def test_a_model_that_draws_random_numbers_can_be_continued(tmp_path: Path) -> None:
    """Not to the same bits, which it never has; and its numbers are those of a run that is not stored."""
    state, particles = springs()
    torch.manual_seed(0)
    options = {"step_size": 0.01, "num_steps": 20, "method": "leapfrog", "save_every": 5}
    plain = rollout(Hamiltonian(Noisy()), state, particles, **options)
    torch.manual_seed(0)
    store(tmp_path, Noisy())
    assert torch.equal(StoredRollout(tmp_path).load().q, plain.q)
    store(tmp_path, Noisy(), 40)


def quartic(method: str | Method, **options: object) -> tuple[list[bool], Tensor]:
    """Three systems, the second too stiff for the step."""
    state, _ = springs()
    stiff = torch.tensor([1.0, 1e8, 1.0], dtype=torch.float64).reshape(3, 1, 1).expand(3, 3, 1)
    particles = Particles(masses=torch.ones(3, 3, dtype=torch.float64), attributes=stiff)
    steps = {"step_size": 0.1, "num_steps": 40, "save_every": 10}
    found = rollout(Hamiltonian(Quartic()), state, particles, method=method, **steps, **options)
    return found.diverged.tolist(), found.q


@pytest.mark.parametrize("method", ["gauss4", "gauss6", "implicit_midpoint_h"])
def test_a_step_that_is_not_solved_stops_its_own_system_only(method: str) -> None:
    diverged, q = quartic(method)
    assert diverged == [False, True, False]
    assert bool(q[[0, 2]].isfinite().all())
    _, alone = quartic(method, batch_size=1)
    assert torch.equal(q[[0, 2]], alone[[0, 2]])


def test_a_method_given_as_an_object_is_taken_as_it_is() -> None:
    with pytest.raises(ConvergenceError, match=r"1 of 3 systems \(batch indices 1\)"):
        quartic(get_method("gauss4"))
    assert quartic(get_method("gauss4", on_failure="nan"))[0] == [False, True, False]


def test_an_error_of_the_method_may_be_left_behind_in_a_stored_run(tmp_path: Path) -> None:
    store(tmp_path, Wells(), method=get_method("gauss4"))
    store(tmp_path, Wells(), 40, "gauss4")


def test_another_dtype_is_named(tmp_path: Path) -> None:
    state, particles = springs()
    RUN.run(state, 10, particles=particles, directory=tmp_path)
    single = PhaseState(q=state.q.float(), p=state.p.float())
    with pytest.raises(ValueError, match="one dtype: q is float32, p float32, the masses are float64"):
        RUN.run(single, 20, particles=particles, directory=tmp_path)
    with pytest.raises(ConfigError, match="start, particles, dtype, motion differ"):
        RUN.run(single, 20, particles=particles.to(dtype=torch.float32), directory=tmp_path)


@pytest.mark.parametrize("content", ["null", "[]", "{"])
def test_a_damaged_manifest_is_named(content: str, tmp_path: Path) -> None:
    state, particles = springs()
    RUN.run(state, 10, particles=particles, directory=tmp_path)
    (tmp_path / "rollout.json").write_text(content)
    with pytest.raises(DataError, match=r"rollout.json is damaged"):
        RUN.run(state, 20, particles=particles, directory=tmp_path)
