"""Learning a potential from trajectories: by the forces along them, or by integrating through them.

    derivatives    L = ⟨ |F_θ(q) − F|² ⟩ / σ²,      F: second derivative of the trajectory, σ² = ⟨F²⟩ − ⟨F⟩²
    rollout        L = ⟨ |Φ_θ^t(q₀, p₀) − (q_t, p_t)|² ⟩ over the points of a chunk, Φ a splitting method

The first needs one force per step and no integration: it is cheaper by the number of integrator stages, and
no error of the integrator enters the learned energy. The second works with noisy or sparse trajectories, the better the
longer they are: an error of the force shows in proportion to t², while that of the observed start stays what it is.
With ``adjoint="reversible"`` its memory does not grow with the number of steps.

Shape letters: S systems, L points of a chunk, B batch, P points used, N particles, d space dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lie_sim.data.derivatives import force_targets
from lie_sim.data.trajectories import Trajectories
from lie_sim.driven import DrivenHamiltonian
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import SplittingMethod, get_method, odeint, splitting_methods
from lie_sim.integrators.stepper import refuse_adaptive
from lie_sim.training.config import TrainingConfig
from lie_sim.training.tasks import Batch, TensorTask, mean_square, particle_tensors, particles_of, select

_ROLLOUT_STEPS = 4  # validation rolls out over five points, as the springs protocol does
_VALIDATION_BATCH = 500
"""Most systems, or points of chunks, that validation computes at once: it bounds the memory."""


def dynamics_task(config: TrainingConfig, train: Trajectories, validation: Trajectories) -> TensorTask:
    """The task that the configuration names, for a :class:`~lie_sim.hamiltonian.Hamiltonian`.

    Args:
        config: its ``loss`` and the options of that loss.
        train: trajectories or chunks of them, in float64.
        validation: likewise; the first ``config.validation_systems`` of them are used.
    """
    if config.validation_systems:
        validation = validation[: config.validation_systems]
    if config.loss == "derivatives":
        return DerivativeTask(
            train, validation, weight=config.weight, points_per_chunk=config.points_per_chunk
        )
    return RolloutTask(
        train,
        validation,
        method=config.rollout_method,
        substeps=config.rollout_substeps,
        points=config.rollout_points,
        adjoint=config.rollout_adjoint,
        compile=config.rollout_compile,
    )


class _DynamicsTask(TensorTask):
    """What both losses share: chunks as tensors, and the rollout error of the validation."""

    adjoint, compile = "autograd", False

    def __init__(self, train: Batch, validation: Batch, *, dt: float, method: str, substeps: int) -> None:
        super().__init__(train, validation)
        refuse_adaptive(get_method(method), "training")
        if substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {substeps}")
        self.dt, self.method, self.substeps = dt, method, substeps

    def rollout_error(self, module: nn.Module, batch: Batch, *, num_points: int | None = None) -> Tensor:
        """Mean square of (q, p) over all points of the chunks, integrated from their first points."""
        hamiltonian, particles = _hamiltonian(module), particles_of(batch)
        q, p = batch["q"][:, :num_points], batch["p"][:, :num_points]
        predicted = odeint(
            hamiltonian.bind(particles),
            (q[:, 0], p[:, 0]),
            self.dt * torch.arange(q.shape[1], dtype=torch.float64),
            method=self.method,
            options={
                "step_size": self.dt / self.substeps,
                "compile": self.compile and torch.is_grad_enabled(),  # validation has other shapes
            },
            adjoint=self.adjoint,
        )
        error = torch.cat([predicted[0].transpose(0, 1) - q, predicted[1].transpose(0, 1) - p], dim=-1)
        return mean_square(error, particles.mask)

    def _validation_batches(self) -> Iterator[tuple[float, Batch]]:
        """Parts of the validation data and the share of the particles in each."""
        total, whole = _num_rows(self._validation), _num_particles(self._validation)
        for start in range(0, total, _VALIDATION_BATCH):
            part = select(self._validation, slice(start, start + _VALIDATION_BATCH))
            yield _num_particles(part) / whole, part


class ForceTask(TensorTask):
    """Regression of forces that were observed at single states, at any times.

    Args:
        train: ``q`` and ``force``, shape (S, N, d), ``t``, shape (S,), and the tensors of the particles, as
            :func:`~lie_sim.training.tasks.particle_tensors` names them; ``t`` is for a Hamiltonian that depends on it.
        validation: likewise.

    Raises:
        ValueError: a tensor is missing or of another shape.

    Example:
        >>> from lie_sim import LieTransformer
        >>> samples = {"q": torch.randn(8, 3, 2), "force": torch.randn(8, 3, 2), "t": torch.rand(8)}
        >>> samples["particles.masses"] = torch.ones(8, 3)
        >>> task = ForceTask(samples, samples)
        >>> task.loss(Hamiltonian(LieTransformer.default()), samples).shape
        torch.Size([])
    """

    def __init__(self, train: Mapping[str, Tensor], validation: Mapping[str, Tensor]) -> None:
        for data in (train, validation):
            missing = [name for name in ("q", "force", "t", "particles.masses") if name not in data]
            if missing:
                raise ValueError(f"forces need {', '.join(missing)}; got {', '.join(data)}")
            shape = data["q"].shape
            expected = {"force": shape, "t": shape[:1], "particles.masses": shape[:2]}
            for name, wanted in expected.items():
                if data[name].shape != wanted:
                    raise ValueError(f"{name} must have shape {tuple(wanted)}, got {tuple(data[name].shape)}")
        super().__init__(train, validation)
        self._scale = float(train["force"].square().mean().sqrt()) or 1.0

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Mean square error of the forces, in units of their mean square in the training data."""
        hamiltonian, particles = _hamiltonian(module), particles_of(batch)
        if isinstance(hamiltonian, DrivenHamiltonian):
            force = hamiltonian.force(batch["q"], particles, t=batch["t"])
        else:
            force = hamiltonian.force(batch["q"], particles)
        return mean_square((force - batch["force"]) / self._scale, particles.mask)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """The loss on the validation data."""
        return {"validation_loss": float(self.loss(module, self._validation))}


class DerivativeTask(_DynamicsTask):
    """Regression of the forces read off trajectories; validation adds the error of a short rollout.

    Args:
        train: trajectories or chunks, float64.
        validation: likewise.
        weight: ``"none"`` counts force errors in units of σ; ``"mass"`` accelerations likewise; ``"relative"`` each
            particle's force in units of its own root mean square, for the same particles in every system.
        points_per_chunk: P random points of each trajectory per step; 0 for all.

    Example:
        >>> from lie_sim.data import make_trajectories
        >>> from lie_sim.systems import Springs
        >>> from lie_sim import LieTransformer
        >>> times = torch.linspace(0, 0.04, 5, dtype=torch.float64)
        >>> data = make_trajectories(Springs(), 8, seed=0, times=times)
        >>> task = DerivativeTask(data[:6], data[6:]).to(dtype=torch.float32, device=torch.device("cpu"))
        >>> batch = task.batch(torch.tensor([0, 3]), torch.Generator().manual_seed(0))
        >>> batch["q"].shape, task.loss(Hamiltonian(LieTransformer.default(num_attributes=1)), batch).shape
        (torch.Size([2, 6, 2]), torch.Size([]))
    """

    option_names: ClassVar[tuple[str, ...]] = ("weight", "points_per_chunk", "dt")

    def __init__(
        self,
        train: Trajectories,
        validation: Trajectories,
        *,
        weight: str = "none",
        points_per_chunk: int = 1,
    ) -> None:
        if weight not in ("none", "mass", "relative"):
            raise ValueError(f'weight must be "none", "mass" or "relative", got {weight!r}')
        if points_per_chunk < 0:
            raise ValueError(f"points_per_chunk must not be negative, got {points_per_chunk}")
        data, held_out = _with_forces(train), _with_forces(validation)
        unit = _force_units(data, weight)
        for part in (data, held_out):
            part["force_unit"] = unit(part["particles.masses"])
        super().__init__(data, held_out, dt=_common_dt(train, validation), method="yoshida4", substeps=1)
        self.weight, self.points_per_chunk = weight, min(points_per_chunk, train.num_times)

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """``points_per_chunk`` random points of each chosen trajectory, as B·P separate systems."""
        data, length = self._train, self._train["q"].shape[1]
        count = self.points_per_chunk or length
        if count == 1:
            times = torch.randint(length, (len(indices), 1), generator=generator)
        else:
            times = torch.rand(len(indices), length, generator=generator).argsort(1)[:, :count]
        return _points(data, indices.repeat_interleave(count), times.flatten())

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """⟨|F_θ − F|²/σ²⟩, σ the unit of force of each particle."""
        hamiltonian, particles = _hamiltonian(module), particles_of(batch)
        if hamiltonian.masses != "known":
            raise ValueError('force targets need known masses: use loss = "rollout" to learn masses')
        error = hamiltonian.force(batch["q"], particles) - batch["force"]
        return mean_square(error / batch["force_unit"][..., None], particles.mask)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """The loss at all points of the validation data, and the error of a rollout over five points."""
        losses = (share * float(self.loss(module, points)) for share, points in self._validation_points())
        errors = (
            share * float(self.rollout_error(module, part, num_points=_ROLLOUT_STEPS + 1))
            for share, part in self._validation_batches()
        )
        return {"validation_loss": sum(losses), "rollout_mse": sum(errors)}

    def _validation_points(self) -> Iterator[tuple[float, Batch]]:
        """Points of the validation data as separate systems, in parts, and the share of the particles in each."""
        length = self._validation["q"].shape[1]
        whole = _num_particles(self._validation) * length
        total = _num_rows(self._validation) * length
        for start in range(0, total, _VALIDATION_BATCH):
            point = torch.arange(start, min(total, start + _VALIDATION_BATCH))
            part = _points(self._validation, point // length, point % length)
            yield _num_particles(part) / whole, part


class RolloutTask(_DynamicsTask):
    """Mean squared error along trajectories or parts of them, integrated by a differentiable splitting method.

    Args:
        train: trajectories or chunks of them.
        validation: likewise; of longer ones the first ``points`` points are used.
        method: name of a splitting method of :mod:`lie_sim.integrators`.
        substeps: integrator steps per step of the data.
        points: points in a row, from a random one on, that enter a step; 0 for all of each trajectory.
        adjoint: "autograd" keeps the graph of every step, "checkpoint" that of about √n of n steps, "reversible" none:
            a thousand steps need the memory of ten. All three give the same gradient.
        compile: whether the force and its derivative are compiled, for ``adjoint="reversible"``; a minute, once.

    Raises:
        ValueError: the method is no splitting method or not one that the adjoint can reverse, there are fewer points
            than asked for, or the adjoint is unknown.

    Example:
        >>> from lie_sim import LieTransformer
        >>> from lie_sim.data import make_trajectories
        >>> from lie_sim.systems import Springs
        >>> data = make_trajectories(Springs(), 4, seed=0).to(dtype=torch.float32)
        >>> task = RolloutTask(data[:2], data[2:], method="leapfrog", points=11, adjoint="reversible")
        >>> batch = task.batch(torch.tensor([0, 1]), torch.Generator().manual_seed(0))
        >>> batch["q"].shape, task.loss(Hamiltonian(LieTransformer.default(num_attributes=1)), batch).shape
        (torch.Size([2, 11, 6, 2]), torch.Size([]))
    """

    option_names: ClassVar[tuple[str, ...]] = ("method", "substeps", "points", "adjoint", "compile", "dt")

    def __init__(
        self,
        train: Trajectories,
        validation: Trajectories,
        *,
        method: str = "yoshida4",
        substeps: int = 1,
        points: int = 0,
        adjoint: str = "autograd",
        compile: bool = False,
    ) -> None:
        data, held_out = _chunk_tensors(train), _chunk_tensors(validation)
        super().__init__(data, held_out, dt=_common_dt(train, validation), method=method, substeps=substeps)
        shortest = min(train.num_times, validation.num_times)
        if points and not 2 <= points <= shortest:
            raise ValueError(f"points must be 0 (all) or from 2 to the {shortest} of the data, got {points}")
        if adjoint not in ("autograd", "reversible", "checkpoint"):
            raise ValueError(f'adjoint must be "autograd", "reversible" or "checkpoint", got {adjoint!r}')
        if compile and adjoint != "reversible":
            raise ValueError(f'compile=True goes with adjoint="reversible", not with {adjoint!r}')
        _check_method(method, adjoint)
        self.points, self.adjoint, self.compile = points, adjoint, compile

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """The chosen trajectories, or a random window of each."""
        found = super().batch(indices, generator)
        length = found["q"].shape[1]
        if self.points in (0, length):
            return found
        start = torch.randint(length - self.points + 1, (len(indices), 1), generator=generator)
        times = (start + torch.arange(self.points)).to(found["q"].device)
        rows = torch.arange(len(indices), device=times.device)[:, None]
        return {**found, "q": found["q"][rows, times], "p": found["p"][rows, times]}

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Mean square of (q, p) over all points, the first ``points`` where a trajectory has more."""
        return self.rollout_error(module, batch, num_points=self.points or None)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """The loss on the validation data."""
        parts = self._validation_batches()
        return {"validation_loss": sum(share * float(self.loss(module, part)) for share, part in parts)}


def _check_method(name: str, adjoint: str) -> None:
    """Refuse at once what would fail at the first loss, or draw noise in it."""
    method = get_method(name)
    if not isinstance(method, SplittingMethod):
        raise ValueError(
            f"the rollout loss integrates with a splitting method, which {method.name} is not; use one of "
            f"{', '.join(known.name for known in splitting_methods())}"
        )
    if adjoint == "reversible" and not method.reversible:
        raise ValueError(
            f'adjoint="reversible" steps back, and a step of {method.name} cannot be reversed: use leapfrog, or '
            'adjoint="checkpoint"'
        )


def _num_rows(batch: Batch) -> int:
    return batch["q"].shape[0]


def _num_particles(batch: Batch) -> int:
    """Particles that exist, over all systems."""
    mask = batch.get("particles.mask")
    return batch["particles.masses"].numel() if mask is None else int(mask.sum())


def _points(data: Batch, rows: Int[Tensor, " P"], times: Int[Tensor, " P"]) -> Batch:
    """Point ``times[k]`` of chunk ``rows[k]`` as system k."""
    rows, times = rows.to(data["q"].device), times.to(data["q"].device)
    points = {name: data[name][rows, times] for name in ("q", "force")}
    rest = {name: tensor for name, tensor in data.items() if name not in ("q", "p", "force")}
    return {**points, **select(rest, rows)}


def _hamiltonian(module: nn.Module) -> Hamiltonian:
    if not isinstance(module, Hamiltonian):
        raise TypeError(
            f"dynamics are learned by a Hamiltonian: train Hamiltonian(model), not {type(module).__name__}"
        )
    return module


def _common_dt(train: Trajectories, validation: Trajectories) -> float:
    if not math.isclose(train.dt, validation.dt, rel_tol=1e-6):
        raise ValueError(
            f"training and validation data must share one time step: {train.dt}, {validation.dt}"
        )
    return train.dt


def _chunk_tensors(data: Trajectories) -> Batch:
    return {"q": data.q, "p": data.p, **particle_tensors(data.particles)}


def _force_units(data: Batch, weight: str) -> Callable[[Float[Tensor, "S N"]], Float[Tensor, "S N"]]:
    """The unit of each particle's force, from the training data alone, as a function of the masses."""
    force, masses = data["force"], data["particles.masses"]
    exists = data.get("particles.mask", torch.ones_like(masses, dtype=torch.bool))
    if weight == "relative":
        squares = (force.square().mean((1, 3)) * exists).sum(0) / exists.sum(0).clamp(min=1)
        own = torch.where(squares > 0, squares, 1.0).sqrt()
        return lambda masses: own.expand_as(masses)
    scaled = force / masses.masked_fill(~exists, 1)[:, None, :, None] if weight == "mass" else force
    scale = float(scaled[exists[:, None].expand(force.shape[:3])].std())
    if not scale > 0:
        raise ValueError("the forces of the training data do not vary: there is nothing to learn from them")
    return lambda masses: (
        torch.where(masses > 0, masses, 1.0) * scale if weight == "mass" else masses * 0 + scale
    )


def _with_forces(data: Trajectories) -> Batch:
    if data.q.dtype != torch.float64:
        raise ValueError(
            "force targets amplify rounding by about 80/dt²: trajectories must be float64, "
            f"got {data.q.dtype}; "
            'store them in float64, or use loss = "rollout"'
        )
    forces = force_targets(data.q, data.p, data.particles.masses, data.dt)
    return {**_chunk_tensors(data), "force": forces}
