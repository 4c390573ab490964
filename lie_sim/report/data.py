"""What a report shows, as plain numbers and text, and its JSON form.

Nothing here knows a model, an integrator or a dataset: whoever trained something fills a
:class:`ReportData`. JSON has no NaN and no infinity; both are written as ``null`` and read back as NaN.

Shape letters: T time steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lie_sim.errors import DataError
from lie_sim.files import write_atomically
from lie_sim.report.formatting import NOT_FINITE
from lie_sim.report.molecule_view import MoleculeView
from lie_sim.report.parity import Parity
from lie_sim.report.parts import Curve, Plot, Table, as_curve
from lie_sim.report.trajectory_view import TrajectoryView

LEARNING_KEYS = ("step", "cpu_seconds", "train_loss", "validation_loss", "learning_rate")
NOTED = ("trajectories", "error", "energy", "parity", "breakdown", "molecules", "comparison", "equivariance")
"""Parts of the page that may have a note."""
_FORMAT = "lie_sim report"
_VERSION = 1


@dataclass(frozen=True)
class EquivarianceRow:
    """One measured symmetry error and the tolerance it is held against.

    Args:
        symmetry: what was applied, such as ``"rotation"``.
        dtype: number type of the measurement, such as ``"float32"``.
        when: ``"before training"`` or ``"after training"``.
        error: the measured error.
        tolerance: the largest error that still passes.
        passed: whether it passed.

    Example:
        >>> EquivarianceRow("rotation", "float64", "after training", 3e-15, 1e-12, True).passed
        True
    """

    symmetry: str
    dtype: str
    when: str
    error: float
    tolerance: float
    passed: bool


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that a report shows; an empty part is left out.

    Args:
        title: heading of the page.
        subtitle: one line below it.
        summary: headline facts, name to text, such as ``{"training time": "212 CPU s"}``.
        learning_curve: rows with some of the keys step, cpu_seconds, train_loss, validation_loss and
            learning_rate, and of those of ``metrics``.
        metrics: further keys of the learning curve and what they are, such as ``{"force_mae": "force MAE (eV/Å)"}``.
        trajectories: systems to animate.
        first_trajectory: number of the one that is shown first.
        error_curves: model name to (times, mean squared error), both of shape (T,).
        energy_curves: curve name to (times, energy change / mean kinetic energy), both of shape (T,).
        parity: quantities, predicted against reference.
        breakdown: tables of errors, by element for example.
        molecules: structures to turn, with their errors.
        plots: further curves, such as the energy along molecular dynamics; each has a section of its own.
        tables: further tables; each has a section of its own.
        equivariance: measured symmetry errors.
        comparison: models side by side.
        configuration: nested dictionary of plain values, shown as TOML.
        train_horizon: time up to which training data reached, marked in the error and energy curves.
        time_unit: unit of the times of these curves; empty for dimensionless.
        notes: part of the page (one of ``NOTED``) to sentences that say what its numbers are.

    Raises:
        ValueError: a curve has times and values of different lengths, or a learning-curve key or a note is unknown.

    Example:
        >>> data = ReportData(title="Springs", learning_curve=[{"step": 1, "train_loss": float("nan")}])
        >>> ReportData.from_json(data.to_json()).learning_curve
        [{'step': 1, 'train_loss': None}]
    """

    title: str
    subtitle: str = ""
    summary: dict[str, str] = field(default_factory=dict)
    learning_curve: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    trajectories: list[TrajectoryView] = field(default_factory=list)
    first_trajectory: int = 0
    error_curves: dict[str, Curve] = field(default_factory=dict)
    energy_curves: dict[str, Curve] = field(default_factory=dict)
    parity: list[Parity] = field(default_factory=list)
    breakdown: list[Table] = field(default_factory=list)
    molecules: list[MoleculeView] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    equivariance: list[EquivarianceRow] = field(default_factory=list)
    comparison: Table | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    train_horizon: float | None = None
    time_unit: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in self.notes:
            if part not in NOTED:
                raise ValueError(f"notes has the unknown key {part!r}; use {', '.join(NOTED)}")
        if not 0 <= self.first_trajectory < max(1, len(self.trajectories)):
            raise ValueError(
                f"first_trajectory must be from 0 to {max(1, len(self.trajectories)) - 1}, got {self.first_trajectory}"
            )
        known = (*LEARNING_KEYS, *self.metrics)
        for row in self.learning_curve:
            unknown = sorted(set(row) - set(known))
            if unknown:
                raise ValueError(f"learning_curve has the unknown key {unknown[0]!r}; use {', '.join(known)}")
        for name in ("error_curves", "energy_curves"):
            curves = {key: as_curve(f"{name}[{key!r}]", curve) for key, curve in getattr(self, name).items()}
            object.__setattr__(self, name, curves)

    def to_json(self) -> str:
        """The whole report as JSON text; non-finite numbers become ``null``, 'not finite' in tables."""
        document = {"format": _FORMAT, "version": _VERSION, **plain(asdict(self))}
        # An empty cell is null already; a diverged model must not look like one that was not measured.
        if self.comparison is not None:
            document["comparison"]["rows"] = _cells(self.comparison)
        for name in ("breakdown", "tables"):
            for written, table in zip(document[name], getattr(self, name), strict=True):
                written["rows"] = _cells(table)
        return json.dumps(document, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ReportData:
        """Undo :meth:`to_json`; ``null`` in an array or table of errors becomes NaN.

        Raises:
            DataError: the text is not the JSON of a report, or of another version.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"expected the JSON of a report; {error}. Write it again with to_json."
            ) from error
        if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
            raise DataError(f'expected a JSON object with "format": "{_FORMAT}"; write it with to_json')
        version = document.pop("version", None)
        if version != _VERSION:
            raise DataError(f"expected report version {_VERSION}; got {version!r}. Run the evaluation again.")
        try:
            return _from_plain(document)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the report does not hold what it should: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write :meth:`to_json` to ``path`` (by custom ``report_data.json``), atomically."""
        return write_atomically(Path(path), self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> ReportData:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing or is not a report.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"expected a report at {path}, but there is no such file")
        return cls.from_json(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """Nested dictionaries, lists, text, finite numbers and None, as JSON can hold them.

    Raises:
        TypeError: a value is of a kind that has no JSON form.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a report holds text, numbers, lists and dictionaries; got a {type(value).__name__}")


def _cells(table: Table) -> list[list[Any]]:
    return [[_cell(cell) for cell in row] for row in table.rows]


def _cell(cell: Any) -> Any:
    return NOT_FINITE if isinstance(cell, float | np.floating) and not math.isfinite(cell) else plain(cell)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _from_plain(document: dict[str, Any]) -> ReportData:
    """Build the dataclasses from what :func:`plain` made of them."""
    parts = dict(document)
    parts["trajectories"] = [TrajectoryView.from_plain(item) for item in document["trajectories"]]
    for name in ("error_curves", "energy_curves"):
        parts[name] = {key: as_curve(key, curve) for key, curve in document[name].items()}
    parts["equivariance"] = [
        EquivarianceRow(**{**row, "error": _number(row["error"]), "tolerance": _number(row["tolerance"])})
        for row in document["equivariance"]
    ]
    # Reports that were written before there were such parts are read as well.
    parts["parity"] = [Parity.from_plain(item) for item in document.get("parity", [])]
    for name in ("breakdown", "tables"):
        parts[name] = [Table(**item) for item in document.get(name, [])]
    parts["molecules"] = [MoleculeView.from_plain(item) for item in document.get("molecules", [])]
    parts["plots"] = [Plot.from_plain(item) for item in document.get("plots", [])]
    parts["comparison"] = None if document["comparison"] is None else Table(**document["comparison"])
    return ReportData(**parts)
