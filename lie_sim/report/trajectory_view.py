"""A part of a report: a system that moves.

Shape letters: T time steps, N particles, d space dimension (2 or 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_ARRAYS = ("times", "true", "predicted", "sizes")
"""Fields of a trajectory that are arrays."""


@dataclass(frozen=True, eq=False)
class TrajectoryView:
    """One system moving: what happened and what the model said would happen, or one motion alone.

    Args:
        label: what the system selector shows.
        times: shape (T,), increasing.
        true: reference positions, or the only ones, shape (T, N, d) with d = 2 or 3.
        predicted: positions from the model, same shape; NaN where the prediction diverged. None if there is nothing
            to compare.
        sizes: one positive number per particle that sets its drawn size (mass, for example), shape (N,).
        names: one name per particle; None means that none are shown.
        train_horizon: time up to which training data reached; None means that no horizon is marked.
        time_unit: unit of ``times``, such as ``"day"``; empty for dimensionless.
        length_unit: unit of the positions.
        colours: one per particle, ``#rrggbb``; None takes those of the page in turn.
        bonds: pairs of particles that are joined by a line.

    Raises:
        ValueError: the shapes do not fit together.

    Example:
        >>> import numpy as np
        >>> q = np.zeros((3, 2, 2))
        >>> view = TrajectoryView("two springs", np.arange(3.0), true=q, predicted=q, sizes=np.ones(2))
        >>> view.true.shape
        (3, 2, 2)
    """

    label: str
    times: np.ndarray
    true: np.ndarray
    predicted: np.ndarray | None
    sizes: np.ndarray
    names: list[str] | None = None
    train_horizon: float | None = None
    time_unit: str = ""
    length_unit: str = ""
    colours: list[str] | None = None
    bonds: list[list[int]] | None = None

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        self._check()

    @classmethod
    def from_plain(cls, item: dict[str, Any]) -> TrajectoryView:
        """Undo what JSON did to it."""
        arrays = {name: np.asarray(item[name], dtype=float) for name in _ARRAYS if item[name] is not None}
        return cls(**{**item, **arrays})

    def _check(self) -> None:
        shape = self.true.shape
        where = f"trajectory {self.label!r}"
        if len(shape) != 3 or shape[2] not in (2, 3) or 0 in shape:
            raise ValueError(f"{where}: true must have the shape (T, N, d) with d = 2 or 3; got {shape}")
        if self.predicted is not None and self.predicted.shape != shape:
            raise ValueError(
                f"{where}: predicted must have the shape {shape} of true; got {self.predicted.shape}"
            )
        if not np.isfinite(self.true).all():
            bad = int(np.argwhere(~np.isfinite(self.true))[0, 0])
            raise ValueError(f"{where}: true must be finite; frame {bad} is not. Only predicted may diverge.")
        if self.times.shape != shape[:1] or not (np.diff(self.times) > 0).all():
            raise ValueError(
                f"{where}: times must be {shape[0]} increasing numbers; got shape {self.times.shape}, "
                f"smallest step {np.diff(self.times).min(initial=math.inf):g}"
            )
        if self.sizes.shape != shape[1:2]:
            raise ValueError(f"{where}: sizes must have the shape ({shape[1]},); got {self.sizes.shape}")
        if self.names is not None and len(self.names) != shape[1]:
            raise ValueError(f"{where}: expected {shape[1]} names, one per particle; got {len(self.names)}")
        if self.colours is not None and len(self.colours) != shape[1]:
            raise ValueError(
                f"{where}: expected {shape[1]} colours, one per particle; got {len(self.colours)}"
            )
        for bond in self.bonds or []:
            if len(bond) != 2 or not all(0 <= each < shape[1] for each in bond):
                raise ValueError(f"{where}: a bond joins two of the {shape[1]} particles; got {bond}")
