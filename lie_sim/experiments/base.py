"""An experiment: data, an untrained module, a training run and an evaluation, kept in one run directory.

A run directory holds

    experiment.toml      name and options
    split.json           which structures are for training and test, where data come from a file
    start/               the model that a run of molecules goes on from
    training.toml, metrics.jsonl, checkpoints/, model/        from the training loop
    results.json         the figures of the evaluation, null where one is not finite
    report_data.json     what the report shows
    report.html, figures/
"""

from __future__ import annotations

import copy
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import tomli_w
import torch
from torch import Tensor, nn

from lie_sim.checkpoint import load_model
from lie_sim.errors import ConfigError
from lie_sim.experiments.results import RESULTS, write_figures
from lie_sim.files import write_atomically
from lie_sim.models import model_class_of, parameter_count
from lie_sim.plain import from_plain, to_plain
from lie_sim.report import ReportData, write_report
from lie_sim.report.data import LEARNING_KEYS
from lie_sim.report.parts import Curve
from lie_sim.training import TrainingConfig, TrainingResult, read_metrics, train
from lie_sim.training.run_state import checkpoints
from lie_sim.training.tasks import Task

C = TypeVar("C")
Fit = Callable[..., TrainingResult]
_OPTIONS = "experiment.toml"
_EXPERIMENTS: dict[str, type[Experiment[Any]]] = {}


@dataclass(frozen=True)
class Evaluation:
    """What an experiment found out about a trained module.

    Args:
        results: figures by name.
        report: what the report shows, without learning curve and configuration.
    """

    results: dict[str, float] = field(default_factory=dict)
    report: ReportData = field(default_factory=lambda: ReportData(title="Run"))


class Experiment(ABC, Generic[C]):
    """Base class; a subclass names itself, its options, its data, its module and its evaluation.

    Args:
        config: the options, with a field ``training``.

    Attributes:
        models: registry names of the models that it can be run with, the first by default, and what makes their
            options; empty if there is no choice.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    models: ClassVar[Mapping[str, Callable[[], Any]]] = {}

    def __init__(self, config: C) -> None:
        self.config = config

    @property
    def training(self) -> TrainingConfig:
        """Options of the training run."""
        training = self.config.training  # type: ignore[attr-defined]
        assert isinstance(training, TrainingConfig)
        return training

    @property
    def config_in_use(self) -> C:
        """The options, with what the run takes from elsewhere."""
        return self.config

    @classmethod
    def with_model(cls, config: C, name: str) -> C:
        """Options with another model, of which the experiment's defaults are taken.

        Raises:
            ConfigError: the experiment cannot be run with it.
        """
        if name not in cls.models:
            choice = f"choose one of {', '.join(cls.models)}" if cls.models else "its model cannot be chosen"
            raise ConfigError(f"{cls.name} has no model {name!r}: {choice}")
        options: Any = config
        changed: C = replace(options, model=cls.models[name]())
        return changed

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained module, seeded by the training options."""

    @abstractmethod
    def task(self) -> Task:
        """Data and loss."""

    @abstractmethod
    def evaluate(self, module: nn.Module, *, progress: bool = True) -> Evaluation:
        """Judge a module on the test data."""

    def data_facts(self) -> dict[str, str]:
        """What a run learns from, by name, for those who start one; nothing where the data are drawn, not read."""
        return {}

    def unit_of(self, figure: str) -> str:
        """Unit of a figure of the evaluation; empty for a plain number."""
        return ""

    def keep(self, folder: Path) -> None:
        """Write what an evaluation needs beside the options into the directory of a run that begins."""

    def reuse(self, folder: Path) -> None:
        """Read what :meth:`keep` wrote, before the data are used."""

    def goes_on(self, folder: Path) -> bool:
        """Whether a run has begun there; then what it kept is read, and else nothing that may lie there."""
        begun = bool(checkpoints(folder / "checkpoints"))
        if begun:
            self.reuse(folder)
        return begun

    def run(self, directory: str | Path, *, progress: bool = True, fit: Fit = train) -> TrainingResult:
        """Train in a run directory, continuing what is there, then evaluate and write the report.

        Args:
            directory: the run directory.
            progress: show progress bars.
            fit: what trains: here, or on a cluster (:class:`lie_sim.distributed.RayFit`).
        """
        folder = Path(directory)
        self._check_name(folder)
        begun = self.goes_on(folder)
        module, task = self.build(), self.task()
        if not begun:
            self._try(module, task)
            folder.mkdir(parents=True, exist_ok=True)
            self._note_options(folder)
            self.keep(folder)
        result = fit(module, task, self.training, folder, progress=progress)
        self._note_options(folder)  # those that may change in a run that is continued
        self.evaluate_run(folder, result.module, progress=progress)
        return result

    def evaluate_run(
        self, directory: str | Path, module: nn.Module | None = None, *, progress: bool = True
    ) -> Evaluation:
        """Evaluate the trained module of a run directory and write ``results.json`` and the report."""
        folder = Path(directory)
        self.reuse(folder)
        module = load_model(folder / "model") if module is None else module
        found = self.evaluate(module, progress=progress)
        rows = read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
        found = replace(found, report=self._complete(found.report, module, rows))
        write_figures(folder / RESULTS, found.results)
        found.report.save(folder / "report_data.json")
        write_report(found.report, folder)
        return found

    def _try(self, module: nn.Module, task: Task) -> None:
        """One loss of two samples, so that a model that does not fit the data is refused before anything is written."""
        dtype = self.training.torch_dtype()
        device = next(module.parameters()).device
        trial = task.to(dtype=dtype, device=device)
        batch = trial.batch(torch.arange(min(2, trial.num_samples)), torch.Generator().manual_seed(0))
        trial.loss(copy.deepcopy(module).to(dtype=dtype), batch)

    def _check_name(self, folder: Path) -> None:
        path = folder / _OPTIONS
        existing = _read(path).get("experiment") if path.exists() else self.name
        if existing != self.name:
            raise ConfigError(
                f"{folder} holds a run of {existing!r}, not of {self.name!r}: choose another directory"
            )

    def _note_options(self, folder: Path) -> None:
        content = {"experiment": self.name, **to_plain(self.config)}
        write_atomically(folder / _OPTIONS, tomli_w.dumps(content).encode())

    def _complete(self, report: ReportData, module: nn.Module, rows: list[dict[str, Any]]) -> ReportData:
        model = getattr(self.config, "model", None)
        summary = {"model": model_class_of(model).__name__} if self.models else {}
        summary |= {"parameters": f"{parameter_count(module):,}", **report.summary}
        if rows:
            summary["training"] = f"{rows[-1]['step']:,} steps, {rows[-1]['cpu_seconds']:.0f} CPU s"
        return replace(
            report,
            summary=summary,
            learning_curve=learning_curve(rows, report.metrics),
            configuration=to_plain(self.config_in_use),
        )


def register_experiment(cls: type[Experiment[C]]) -> type[Experiment[C]]:
    """Class decorator: make an experiment available by its name.

    Raises:
        ValueError: another class already has that name.
    """
    existing = _EXPERIMENTS.get(cls.name)
    if existing is not None and (existing.__module__, existing.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ValueError(
            f"experiment name {cls.name!r} is taken by {existing.__module__}.{existing.__qualname__}: choose another"
        )
    _EXPERIMENTS[cls.name] = cls
    return cls


def experiment_names() -> list[str]:
    """Names of all experiments, sorted."""
    return sorted(_EXPERIMENTS)


def experiment_class(name: str) -> type[Experiment[Any]]:
    """The experiment of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _EXPERIMENTS:
        raise ConfigError(f"unknown experiment {name!r}; choose one of {', '.join(experiment_names())}")
    return _EXPERIMENTS[name]


def open_run(directory: str | Path) -> Experiment[Any]:
    """The experiment of a run directory, with the options it was run with.

    Raises:
        ConfigError: the directory is missing or is not a run.
    """
    path = Path(directory) / _OPTIONS
    if not path.is_file():
        raise ConfigError(f"{directory} is not a run directory: it has no experiment.toml")
    values = _read(path)
    cls = experiment_class(str(values.pop("experiment", "")))
    return cls(from_plain(cls.Config, values, source=str(path)))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def curve(times: Tensor, values: Tensor) -> Curve:
    """A curve as the report wants it."""
    return times.detach().double().cpu().numpy(), values.detach().double().cpu().numpy()


def learning_curve(rows: list[dict[str, Any]], metrics: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Rows of ``metrics.jsonl`` with the keys that the report knows, or wants besides."""
    return [{key: row[key] for key in (*LEARNING_KEYS, *metrics) if key in row} for row in rows]
