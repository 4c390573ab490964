"""How well a Hamiltonian predicts trajectories it has not seen: the figures that every dynamics experiment reports.

    short rollout   mean square of (q, p) − truth over the points of a chunk, the first one included
    long rollout    the same over ``long_steps + 1`` points, and at the last one
    energy          (H(t) − H(0)) / mean kinetic energy: the learned H along its own trajectories, and the true H
                    along them (:func:`lie_sim.rollout.energy_change`)

Shape letters: B systems, T times, N particles, d space dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.data import Trajectories
from lie_sim.experiments.base import curve
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.report.parts import Curve
from lie_sim.rollout import RolloutError, RolloutResult, energy_change, mean_squared_error, rollout
from lie_sim.state import PhaseState
from lie_sim.systems import System

STATE_ERROR = "It is that of positions and momenta (q, p) together, with equal weight."
"""What :func:`score_rollout` measures, for the report."""
_ENOUGH = 10  # systems that have a ninth tenth
BATCH = 500
"""Systems integrated together; bounds the memory."""


@dataclass(frozen=True)
class RolloutScores:
    """Errors of a Hamiltonian over one horizon.

    Args:
        mean: mean squared error over all systems that stayed finite and all times.
        median: median over the systems of their mean squared error.
        last: mean squared error at the last time.
        diverged_share: share of systems that stopped being finite or left the divergence bound.
        error: the errors as functions of time.
        predicted: the trajectories.
    """

    mean: float
    median: float
    last: float
    diverged_share: float
    error: RolloutError
    predicted: RolloutResult


def score_rollout(
    hamiltonian: Hamiltonian | System,
    truth: Trajectories,
    *,
    method: str = "pefrl",
    substeps: int = 1,
    progress: bool = False,
) -> RolloutScores:
    """Integrate from the first state of every trajectory and compare with the rest of it.

    Args:
        hamiltonian: learned or exact.
        truth: trajectories or chunks; their time step is the integrator's.
        method: splitting method.
        substeps: integrator steps per time step.
        progress: show a progress bar.
    """
    truth = _like(hamiltonian, truth)
    predicted = rollout(
        hamiltonian,
        truth.state(0),
        truth.particles,
        step_size=truth.dt,
        num_steps=truth.num_times - 1,
        method=method,
        substeps=substeps,
        batch_size=BATCH,
        progress=progress,
    )
    error = mean_squared_error(predicted, (truth.q, truth.p))
    per_system = error.per_system.double().nanmean(-1)
    finite = ~predicted.diverged
    return RolloutScores(
        mean=float(per_system[finite].mean()),
        median=float(per_system[finite].median()) if bool(finite.any()) else float("nan"),
        last=float(error.mean[-1]),
        diverged_share=float(predicted.diverged.double().mean()),
        error=error,
        predicted=predicted,
    )


def energy_curves(
    system: System, truth: Trajectories, learned: RolloutScores, exact: RolloutScores
) -> dict[str, Curve]:
    """Magnitudes of the energy changes against time, in units of the mean kinetic energy, as the reports show them.

    Each is the median over the systems; that of the learned energy also has the magnitude that nine systems in ten stay
    below, where there are ten.

    Args:
        system: the true energy.
        truth: the trajectories that both rollouts started from.
        learned: rollout of a learned Hamiltonian.
        exact: rollout of ``system`` with the same integrator and step.
    """
    energies = {
        "learned H, own trajectory": energy_change(learned.predicted, truth.particles),
        "true H, learned trajectory": energy_change_along(system, learned.predicted, truth),
        "true H, same integrator": energy_change(exact.predicted, truth.particles),
    }
    curves = {name: curve(learned.error.times, magnitude(values)) for name, values in energies.items()}
    if len(truth) >= _ENOUGH:
        upper = magnitude(energies["learned H, own trajectory"], quantile=0.9)
        curves["learned H, nine systems in ten"] = curve(learned.error.times, upper)
    return curves


def energy_note(truth: Trajectories, learned: RolloutScores, *, method: str) -> str:
    """One sentence that says what :func:`energy_curves` shows."""
    count, dtype = len(truth), str(learned.predicted.q.dtype).removeprefix("torch.")
    if count == 1:
        what = "The curves are of the one system that there is"
    else:
        what = f"The curves are medians over {count} systems"
    upper = "; nine in ten stay below the fourth" if count >= _ENOUGH else ""
    return (
        f"{what}, the model's in {dtype}, by {method} with steps of {truth.dt:.3g}{upper}. Growth comes from steps too "
        "long for the steepest systems, which shorter ones remove, and in float32 from rounding."
    )


def energy_change_along(
    system: Hamiltonian | System, path: RolloutResult, truth: Trajectories
) -> Float[Tensor, "B T"]:
    """Change of an energy function along given trajectories, in units of their mean kinetic energy.

    Args:
        system: the energy function.
        path: the trajectories; they may lie on another device than ``truth``.
        truth: whose particles they are; its dtype is that of the calculation.

    Returns:
        Shape (B, T), float64, on the device of the path.
    """
    truth = truth.to(device=path.q.device) if isinstance(system, System) else _like(system, truth)
    energies = []
    with torch.no_grad():
        for time in range(path.q.shape[1]):
            state = PhaseState(q=path.q[:, time].to(truth.q), p=path.p[:, time].to(truth.q))
            energies.append(system.energy(state, truth.particles))
    return energy_change(path, truth.particles, energy=torch.stack(energies, 1).to(path.q.device))


def magnitude(values: Float[Tensor, "B T"], *, quantile: float = 0.5) -> Float[Tensor, " T"]:
    """The magnitude that a share of the systems that are finite stays below, shape (T,); NaN where none is.

    Example:
        >>> magnitude(torch.tensor([[0.0, -1.0], [0.0, 3.0], [0.0, torch.nan]])).tolist()
        [0.0, 2.0]
    """
    return values.double().abs().nanquantile(quantile, dim=0)


def _like(hamiltonian: Hamiltonian | System, truth: Trajectories) -> Trajectories:
    """The trajectories in the dtype and on the device of the model's parameters."""
    if isinstance(hamiltonian, Hamiltonian):
        parameter = next(hamiltonian.parameters())
        return truth.to(dtype=parameter.dtype, device=parameter.device)
    return truth
