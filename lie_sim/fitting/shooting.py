"""A Hamiltonian from observations with gaps, by multiple shooting.

    L = Σ_seen ρ((x̂ − x)² / σ²)  +  Σ_filled ρ((x̂ − x̃)² / (σ² + 2 b²))  +  Σ_joints ρ((x̂_end − x_next)² / σ_j²)
    ρ(r²) = 2 δ² (√(1 + r²/δ²) − 1)

The tracks are cut into segments; each has a start (q, p), which is learned together with the energy, and from which the
motion x̂ is computed. What was observed counts with its noise σ, what was filled in with the scale b that it was said to
have (a Laplace distribution has the variance 2 b²), and the end of a segment should meet the start of the next. Far off
ones count by how far, not by its square: the first steps would else follow the few fastest systems. Short segments make
the energy of a start that is off small; the joints carry a motion through gaps that are longer.

Shape letters: S segments, B batch, W times of a segment, N particles, d space dimension, M = d or 2 d measurements.
Reference: Bock, "Recent advances in parameter identification techniques for O.D.E.", in Numerical Treatment of Inverse
Problems, Birkhäuser 1983 (multiple shooting).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import odeint
from lie_sim.state import Particles
from lie_sim.training.tasks import Batch, TensorTask, particle_tensors, particles_of, select


class Shooting(nn.Module):
    """A Hamiltonian and the starts of all segments.

    Args:
        hamiltonian: its weights are learned unless they are frozen.
        q: positions at the starts, shape (S, N, d).
        p: momenta, likewise.
    """

    def __init__(
        self, hamiltonian: Hamiltonian, q: Float[Tensor, "S N d"], p: Float[Tensor, "S N d"]
    ) -> None:
        super().__init__()
        self.hamiltonian = hamiltonian
        self.q, self.p = nn.Parameter(q.clone()), nn.Parameter(p.clone())

    def motion(
        self,
        segments: Int[Tensor, " B"],
        times: Float[Tensor, "B W"],
        particles: Particles,
        *,
        step_size: float,
        method: str = "leapfrog",
    ) -> tuple[Float[Tensor, "B W N d"], Float[Tensor, "B W N d"]]:
        """Positions and momenta at the times of some segments, from their starts.

        Args:
            segments: which.
            times: of each, the first being that of its start.
            particles: of each.
            step_size: about how long a step is.
            method: a splitting method.
        """
        q, p = odeint(
            self.hamiltonian.bind(particles),
            (self.q[segments], self.p[segments]),
            times.T,
            method=method,
            options={"step_size": step_size},
        )
        return q.transpose(0, 1), p.transpose(0, 1)


class ShootingTask(TensorTask):
    """Segments of observations to which the motions are fitted.

    Args:
        segments: ``values``, ``weights`` (1/variance, 0 for what does not count), both of shape (S, W, N, M); ``times``
            (S, W), rising; ``last``, index of the last time that is of the track, (S,); ``next``, the segment that
            begins there, or −1, (S,); and the tensors of the particles. Velocities follow positions.
        joint: σ_j, in the same unit.
        step_size: of the integrator.
        method: a splitting method.
        validation: likewise; by default the segments themselves.
    """

    option_names: ClassVar[tuple[str, ...]] = ("joint", "step_size", "method")

    def __init__(
        self,
        segments: Mapping[str, Tensor],
        *,
        joint: float,
        step_size: float,
        method: str = "leapfrog",
        validation: Mapping[str, Tensor] | None = None,
    ) -> None:
        numbered = dict(segments) | {"segment": torch.arange(len(segments["values"]))}
        super().__init__(numbered, numbered if validation is None else validation)
        self.joint, self.step_size, self.method = joint, step_size, method

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The sum above, over the number of observations that count."""
        shooting = _shooting(module)
        particles, segment = particles_of(batch), batch["segment"]
        q, p = shooting.motion(
            segment, batch["times"], particles, step_size=self.step_size, method=self.method
        )
        masses = particles.masses[:, None, :, None]
        moved = torch.cat([q, p / masses], dim=-1)[..., : batch["values"].shape[-1]]
        missed = torch.where(batch["weights"] > 0, moved - batch["values"], 0.0)
        off = _soft(batch["weights"] * missed.square()).sum()
        count = (batch["weights"] > 0).sum().clamp(min=1)
        joined = batch["next"] >= 0
        if bool(joined.any()):
            row = torch.arange(len(segment), device=segment.device)[joined]
            end, following = batch["last"][joined], batch["next"][joined]
            gap = q[row, end] - shooting.q[following]
            push = (p[row, end] - shooting.p[following]) / masses[joined, 0]
            off = off + sum(_soft((x / self.joint).square()).sum() for x in (gap, push))
        return off / count

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """The loss on the validation segments."""
        total = len(self._validation["values"])
        parts = [select(self._validation, slice(k, k + _AT_ONCE)) for k in range(0, total, _AT_ONCE)]
        return {
            "validation_loss": sum(
                len(part["values"]) / total * float(self.loss(module, part)) for part in parts
            )
        }


_AT_ONCE = 256
_SHORT = 1e-3
"""Of the spacing: what makes a last segment as long as the others."""
_FAR = 2.0
"""δ: from how many deviations on."""


def _soft(square: Tensor) -> Tensor:
    """ρ of squares."""
    return 2 * _FAR**2 * ((1 + square / _FAR**2).sqrt() - 1)


def segment_tensors(
    values: Float[Tensor, "T N M"],
    weights: Float[Tensor, "T N M"],
    times: Float[Tensor, " T"],
    particles: Particles,
    *,
    steps: int,
    first: int = 0,
) -> Batch:
    """A track as the segments of :class:`ShootingTask`, ``steps`` intervals each; the last may be shorter.

    Args:
        values: finite; where the weight is 0 they do not matter.
        weights: 1/variance.
        times: rising.
        particles: one system.
        steps: intervals of a segment.
        first: number of the first segment, where there are those of other tracks before.

    Example:
        >>> x, t = torch.zeros(6, 2, 1), torch.arange(6.0)
        >>> found = segment_tensors(x, torch.ones_like(x), t, Particles(masses=torch.ones(1, 2)), steps=2)
        >>> found["times"].double().round(decimals=4).tolist(), found["last"].tolist(), found["next"].tolist()
        ([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [4.0, 5.0, 5.001]], [2, 2, 1], [1, 2, -1])
    """
    count = -(-(len(times) - 1) // steps)
    extra = count * steps + 1 - len(times)
    short = _SHORT * float(times.diff().median())  # the motion ends with the track
    times = torch.cat([times, times[-1] + short * torch.arange(1, extra + 1).to(times)])
    values, weights = (torch.cat([x, x.new_zeros(extra, *x.shape[1:])]) for x in (values, weights))
    index = steps * torch.arange(count)[:, None] + torch.arange(steps + 1)
    shared = weights[index].clone()
    shared[1:, 0] *= 0.5  # the end of a segment and the start of the next are one observation
    shared[:-1, -1] *= 0.5
    numbers = torch.arange(count)
    last = torch.full((count,), steps)
    last[-1] = steps - extra
    following = torch.where(numbers < count - 1, first + numbers + 1, -1)
    found = {
        "values": values[index],
        "weights": shared,
        "times": times[index],
        "last": last,
        "next": following,
    }
    repeated = {
        name: tensor.expand(count, *tensor.shape[1:]) for name, tensor in particle_tensors(particles).items()
    }
    return found | repeated


def _shooting(module: nn.Module) -> Shooting:
    if not isinstance(module, Shooting):
        raise TypeError(f"this task is for a Shooting, got {type(module).__name__}")
    return module
