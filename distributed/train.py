"""Training an experiment here, or on many workers of Ray that share every batch.

    workers=0          this process; Ray is not imported
    workers=4          four workers of Ray Train, each with a quarter of every batch
    workers=(2, 8)     as many as there is room for, which may change while they train

The workers run the loop of :func:`lie_sim.training.train`, with its checkpoints in the run directory, which all of them
must see. Kill anything at any time and call again: with the same number of workers the weights are those of an
undisturbed run, to the bit; with another number they follow the same batches and differ by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from lie_sim.distributed.cluster import environment
from lie_sim.distributed.followed import followed
from lie_sim.distributed.manifest import missing_device
from lie_sim.distributed.with_ray import with_ray
from lie_sim.errors import TrainingInterrupted
from lie_sim.training import Task, TrainingConfig, TrainingResult
from lie_sim.training import train as train_here
from lie_sim.training.run_state import checkpoints

_DRIVER = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}  # relative paths of data stay what they are


@runtime_checkable
class Trainable(Protocol):
    """An experiment, as far as training is concerned."""

    def run(self, directory: str | Path, *, progress: bool = True, fit: Any = train_here) -> TrainingResult:
        """Train in a run directory by ``fit``, then evaluate."""


def train(
    experiment: Trainable,
    *,
    run: str | Path,
    workers: int | tuple[int, int] = 0,
    device: str = "cpu",
    progress: bool = True,
    **options: Any,
) -> TrainingResult:
    """Train an experiment, evaluate it and write its report; the same call resumes.

    Args:
        experiment: what :mod:`lie_sim.experiments` makes.
        run: the run directory; on a cluster one that all nodes see.
        workers: 0 for this process, a number, or the smallest and the largest.
        device: where to compute, ``"cpu"`` or ``"cuda"``; a GPU for each worker. It may change when a run is resumed.
        progress: show progress bars.
        **options: of :class:`RayFit`, with workers.

    Returns:
        The module with its best averaged weights, and how the run ended.

    Raises:
        ValueError: a number is impossible, or something is given that would be ignored.
        MissingPackageError: Ray is there without what its training needs.
        ClusterError: Ray cannot be reached, or the workers died too often.
        TrainingInterrupted: Ctrl-C; the run can be resumed from its newest checkpoint.
        ConfigError: the directory holds another run, or a batch has fewer rows than there are workers.
    """
    if workers == 0 and options:
        raise ValueError(f"without workers there is no use for {', '.join(sorted(options))}: give workers")
    if workers == 0:
        here = {} if device == "cpu" else {"fit": LocalFit(device)}
        return experiment.run(run, progress=progress, **here)
    return experiment.run(run, progress=progress, fit=RayFit(workers=workers, device=device, **options))


@dataclass(frozen=True)
class LocalFit:
    """What :func:`lie_sim.training.train` does, on a device of this machine.

    Args:
        device: as PyTorch names it, such as ``"cuda:1"``.

    Raises:
        ValueError: there is no such device here.

    Example:
        >>> LocalFit("cpu")
        LocalFit(device='cpu')
    """

    device: str = "cpu"

    def __post_init__(self) -> None:
        if reason := missing_device(self.device):
            raise ValueError(f"device must be one that PyTorch has here, got {self.device!r}: {reason}")

    def __call__(
        self,
        module: nn.Module,
        task: Task,
        config: TrainingConfig,
        run_directory: str | Path,
        *,
        progress: bool = True,
    ) -> TrainingResult:
        """Train a module in a run directory, or go on with what is there."""
        return train_here(module.to(self.device), task, config, run_directory, progress=progress)


@dataclass(frozen=True, kw_only=True)
class RayFit:
    """What :func:`lie_sim.training.train` does, done by workers of Ray that share every batch.

    Module and task are sent to the workers through Ray's object store.

    Args:
        workers: how many, or the smallest and the largest number.
        address: of Ray, as of :func:`~lie_sim.distributed.cluster`; None for the one that is in use, or a Ray of this
            machine that ends with the training.
        threads: of torch in each worker; processors that Ray reserves for it.
        device: ``"cpu"``, or ``"cuda"`` for a GPU each.
        retries: how often Ray may start the workers again after one of them died.
        report_every: seconds between two reports to Ray, at least.
        resize_every: seconds between two looks whether there is room for more workers.

    Raises:
        ValueError: a number is impossible.

    Example:
        >>> RayFit(workers=(2, 8)).most
        8
    """

    workers: int | tuple[int, int]
    address: str | None = None
    threads: int = 1
    device: str = "cpu"
    retries: int = 10
    report_every: float = 60.0
    resize_every: float = 60.0

    def __post_init__(self) -> None:
        lowest, highest = (self.workers,) * 2 if isinstance(self.workers, int) else self.workers
        if not 1 <= lowest <= highest:
            raise ValueError(
                f"workers must be positive, or (smallest, largest) number of them; got {self.workers!r}"
            )
        for name, least in (("threads", 1), ("retries", 0), ("report_every", 0), ("resize_every", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be 'cpu' or 'cuda', got {self.device!r}")

    @property
    def most(self) -> int:
        """The largest number of workers."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    def __call__(
        self,
        module: nn.Module,
        task: Task,
        config: TrainingConfig,
        run_directory: str | Path,
        *,
        progress: bool = True,
    ) -> TrainingResult:
        """Train a module in a run directory, or go on with what is there."""
        folder = Path(run_directory).resolve()
        ray = with_ray("ray_train", self.address, processors=self.most * self.threads)
        with ray as ray_train, environment(_DRIVER), _stoppable(folder):
            crew = ray_train.Crew(
                workers=self.workers,
                threads=self.threads,
                on_gpu=self.device == "cuda",
                retries=self.retries,
                report_every=self.report_every,
                resize_every=self.resize_every,
            )
            with followed(folder, config, metric=task.metric, shown=progress):
                ray_train.train_together(crew, module, task, config, folder)
        return train_here(module, task, config, folder, progress=False)


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Turn Ctrl-C into a message; Ray's own answer to it is to end this process."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        step = max(
            (int(x.stem.removeprefix("step_")) for x in checkpoints(folder / "checkpoints")), default=0
        )
        raise TrainingInterrupted(
            f"training stopped; the newest checkpoint is of step {step}. "
            f"To resume, start the same run again with the run directory {folder}"
        ) from None
