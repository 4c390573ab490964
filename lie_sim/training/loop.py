"""The training loop: AdamW or Muon, warm-up and cosine, averaged weights, early stopping, checkpoints.

A run directory holds

    training.toml                     the options
    metrics.jsonl                     one line per ``log_every`` steps and per validation
    checkpoints/step_*.safetensors    the newest two
    model/                            the result (:func:`lie_sim.checkpoint.load_model` reads it)
    nonfinite_step_*/                 batch and last good weights, if a loss or a gradient was not finite

A run that was killed at any moment and started again with the same arguments ends with the same weights, bit
for bit, as one that was not (on the same machine with the same number of threads). With ``max_cpu_seconds``
the number of steps and the learning rate depend on the speed, and this does not hold.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from lie_sim.data.storage import save_tensors
from lie_sim.errors import CheckpointError, NonFiniteError, TrainingInterrupted
from lie_sim.lifting import HaarLift
from lie_sim.plain import to_plain
from lie_sim.training.config import TrainingConfig, save_config
from lie_sim.training.guard import FiniteGuard, interruptions
from lie_sim.training.metrics import MetricsFile
from lie_sim.training.progress import Progress
from lie_sim.training.run_state import RunState
from lie_sim.training.saving import describe_module, save_module
from lie_sim.training.schedule import Sampler, learning_rate
from lie_sim.training.tasks import Batch, Task
from lie_sim.training.world import World

Resume = Literal["auto", "required", "restart"]


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Args:
        module: the trained module with its best averaged weights, in evaluation mode.
        steps: number of steps.
        cpu_seconds: CPU time of all processes, over all parts of the run.
        stopped_by: ``"max_steps"``, ``"max_cpu_seconds"`` or ``"early_stopping"``.
        best_step: step of the best validation.
        best_metric: its value.
        validation: all numbers of the last validation.
        run_directory: where the run is kept, if anywhere.
    """

    module: nn.Module
    steps: int
    cpu_seconds: float
    stopped_by: str
    best_step: int
    best_metric: float
    validation: dict[str, float] = field(default_factory=dict)
    run_directory: Path | None = None


def train(
    module: nn.Module,
    task: Task,
    config: TrainingConfig,
    run_directory: str | Path | None = None,
    *,
    progress: bool = True,
    resume: Resume = "auto",
    world: World | None = None,
) -> TrainingResult:
    """Train a module in place.

    Args:
        module: what the task trains: a :class:`~lie_sim.hamiltonian.Hamiltonian` or a classifier.
        task: data and loss.
        config: options of the run.
        run_directory: where to keep the run; None keeps nothing (and a stopped run cannot be resumed).
        progress: show a progress bar.
        resume: ``"auto"`` continues the run of the directory if there is one, ``"required"`` insists on it,
            ``"restart"`` begins again: it deletes the checkpoints and empties the metrics. The model of the old
            run stays until the new one is finished, its ``nonfinite_step_*`` for good.
        world: the processes that train together, all of which call this; None for this one alone. The run directory
            must be one that all of them see.

    Returns:
        The module with its best averaged weights, and how the run ended.

    Raises:
        NonFiniteError: a loss or gradient became NaN or infinite.
        TrainingInterrupted: Ctrl-C; with a run directory, a checkpoint was written.
        ConfigError: the directory holds a run with other options (never with ``"restart"``).
        CheckpointError: the directory holds a run of another model or other data (never with ``"restart"``),
            or nothing to resume.

    Example:
        >>> from lie_sim import Hamiltonian, LieTransformer
        >>> from lie_sim.data import make_trajectories
        >>> from lie_sim.systems import Springs
        >>> from lie_sim.training import DerivativeTask
        >>> times = torch.linspace(0, 0.04, 5, dtype=torch.float64)
        >>> data = make_trajectories(Springs(), 30, seed=0, times=times)
        >>> H = Hamiltonian(LieTransformer.default(num_attributes=1, width=8, num_layers=1))
        >>> config = TrainingConfig(max_steps=3, batch_size=10)
        >>> train(H, DerivativeTask(data[:20], data[20:]), config, progress=False).steps
        3
    """
    device = next(module.parameters()).device
    module.to(dtype=config.torch_dtype()).train()
    identity = {
        "config": to_plain(config),
        "model": {} if run_directory is None else describe_module(module),
        "task": task.options(),
        "data": {"digest": task.digest()},
    }
    state = RunState(module, config, identity)
    trainer = _Trainer(
        state, task.to(dtype=config.torch_dtype(), device=device), run_directory, resume, world or World()
    )
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices, device_type="cuda" if device.type == "cpu" else device.type):
        try:
            return trainer.run(progress=progress)
        finally:
            trainer.close()


class _Trainer:
    """One run from its start, or its newest checkpoint, to its end."""

    def __init__(
        self,
        state: RunState,
        task: Task,
        run_directory: str | Path | None,
        resume: Resume,
        world: World,
    ) -> None:
        self.state, self.task, self.config, self.world = state, task, state.config, world
        self.folder = None if run_directory is None else Path(run_directory)
        sizes = getattr(task, "sizes", None)
        self.sampler = Sampler(task.num_samples, self.config.batch_size, seed=self.config.seed, sizes=sizes)
        lifts = [lift for lift in state.module.modules() if isinstance(lift, HaarLift) and not lift.exact]
        self._lift_seeds = {lift: lift.seed for lift in lifts if self.config.resample_lifts}
        self._open(resume)
        self.guard = FiniteGuard(state.parameters)
        self._rate, self._norm = 0.0, torch.zeros(())
        self._earlier_seconds, self._begin = state.cpu_seconds, time.process_time()

    def _open(self, resume: Resume) -> None:
        """Continue the run of the directory, or begin one there."""
        if resume not in ("auto", "required", "restart"):
            raise ValueError(f'resume must be "auto", "required" or "restart", got {resume!r}')
        self.metrics = MetricsFile(None, num_rows=0)
        if self.folder is None:
            if resume == "required":
                raise CheckpointError("nothing to resume: no run directory was given")
            return
        folder = self.folder
        checkpoint = self.world.first(lambda: self._begin_or_restore(folder, resume))
        if self.world.rank > 0:
            self.state.restore(checkpoint)

    def _begin_or_restore(self, folder: Path, resume: Resume) -> Path:
        """The checkpoint with which the run goes on, restored or written."""
        if resume == "restart":
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        found = self.state.restore_newest(folder / "checkpoints")
        if found is None and resume == "required":
            raise CheckpointError(f"nothing to resume: no checkpoint in {folder / 'checkpoints'}")
        save_config(self.config, folder / "training.toml")
        self.metrics = MetricsFile(folder / "metrics.jsonl", num_rows=self.state.rows)
        return found or self.state.save(folder / "checkpoints")

    def close(self) -> None:
        """Release the metrics file and give the lifts their own samples back."""
        self.metrics.close()
        for lift, seed in self._lift_seeds.items():
            lift.resample(seed)

    def run(self, *, progress: bool) -> TrainingResult:
        """Steps until the end."""
        bar = Progress(
            shown=progress,
            fraction=self._fraction(),
            batch_size=self.sampler.batch_size,
            metric=self.task.metric,
        )
        try:
            with interruptions() as interrupted:
                while (reason := self._finished()) is None:
                    self._step()
                    bar.count()
                    self._after_step(bar)
                    if interrupted.is_set() and self._finished() is None:
                        raise self._interrupted()
                # A CPU budget can also end between a step and its bookkeeping.
                if self.state.validated_step != self.state.step:
                    self._validate()
                    self._log(bar)
                    self._checkpoint()
        finally:
            bar.close()
        return self._result(reason)

    def _fraction(self) -> float:
        """Part of the run that is done."""
        steps = self.state.step / self.config.max_steps if self.config.max_steps else 0.0
        seconds = self.config.max_cpu_seconds
        return max(steps, self.state.cpu_seconds / seconds if seconds else 0.0)

    def _finished(self) -> str | None:
        state, config = self.state, self.config
        if config.max_steps and state.step >= config.max_steps:
            return "max_steps"
        if config.max_cpu_seconds and state.cpu_seconds >= config.max_cpu_seconds:
            return "max_cpu_seconds"
        if config.patience and state.bad_validations >= config.patience:
            return "early_stopping"
        return None

    def _batch(self, step: int) -> Batch:
        return self.task.batch(self.sampler.indices(step), self.sampler.generator(f"batch/{step}"))

    def _step(self) -> None:
        """One update of the weights."""
        state, step = self.state, self.state.step
        torch.manual_seed(self.sampler.seed_for(f"torch/{step}"))
        for lift in self._lift_seeds:
            lift.resample(self.sampler.seed_for(f"lift/{step}"))
        self._rate = learning_rate(self.config, step, self._fraction())
        state.optimizer.zero_grad()
        share, weight = self.world.share(self._batch(step))
        loss = self.task.loss(state.module, share)
        torch.autograd.backward(loss)
        loss = loss.detach()
        self.world.mean([*(p.grad for p in state.parameters if p.grad is not None), loss], weight)
        limit = self.config.clip_norm or math.inf
        self._norm = nn.utils.clip_grad_norm_(state.parameters, limit)
        self._stop_if_bad(self.guard.first_bad(step, loss, self._norm))
        state.optimizer.step(learning_rate=self._rate)
        state.step += 1
        state.average_weights()
        state.loss_sum += loss
        state.loss_count += 1
        self._count_seconds()

    def _count_seconds(self) -> None:
        self.state.cpu_seconds = self._earlier_seconds + self.world.total(time.process_time() - self._begin)

    def _after_step(self, bar: Progress) -> None:
        """Validation, metrics and checkpoint, whichever are due."""
        state, config = self.state, self.config
        ended = self._finished() is not None
        every = config.validate_every
        validate = ended or bool(every and state.step % every == 0)
        log = validate or state.step % config.log_every == 0
        checkpoint = ended or state.step % config.checkpoint_every == 0
        if log or checkpoint:
            self._stop_if_bad(self.guard.look())
        if validate:
            self._validate()
        if log:
            self._log(bar)
        if checkpoint or self._finished() is not None:
            self._checkpoint()

    def _validate(self) -> None:
        found = self.world.first(lambda: self.task.validate(self.state.averaged_module()))
        self.state.note_validation(found, self.task.metric)

    def _log(self, bar: Progress) -> None:
        state = self.state
        self._count_seconds()
        row: dict[str, Any] = {
            "step": state.step,
            "cpu_seconds": state.cpu_seconds,
            "train_loss": float(state.loss_sum) / max(1, state.loss_count),
            "learning_rate": self._rate,
            "grad_norm": float(self._norm),
        }
        if state.validated_step == state.step:
            row |= state.validation
        self.metrics.append(row)
        self.world.report(row)
        state.rows += 1
        bar.update(
            fraction=self._fraction(),
            step=state.step,
            loss=row["train_loss"],
            validation=state.validation.get(self.task.metric),
            learning_rate=self._rate,
        )
        state.loss_sum, state.loss_count = torch.zeros_like(state.loss_sum), 0

    def _checkpoint(self) -> None:
        if self.folder is not None and self.world.rank == 0:
            self.metrics.sync()
            self.state.save(self.folder / "checkpoints")

    def _interrupted(self) -> TrainingInterrupted:
        if self.folder is None:
            return TrainingInterrupted(
                f"training stopped after step {self.state.step}; nothing was kept: "
                "give a run directory to be able to resume"
            )
        self._checkpoint()
        return TrainingInterrupted(
            f"training stopped after step {self.state.step}; a checkpoint was written. "
            f"To resume, start the same run again with the run directory {self.folder}"
        )

    def _stop_if_bad(self, step: int | None) -> None:
        """Save what is needed to find out why, and raise."""
        if step is None:
            return
        self.guard.restore()
        advice = (
            "Lower learning_rate or clip_norm, warm up longer, use dtype = 'float64', "
            "or look for coincident particles in the batch"
        )
        kept = "nothing was kept: give a run directory to get the batch and the last good weights"
        if self.folder is not None:
            evidence = self.world.first(lambda: self._keep_evidence(step))
            kept = f"the batch and the last good weights are in {evidence}"
        raise NonFiniteError(
            f"the loss or its gradient is not finite in step {step + 1} (learning rate {self._rate:.2e}); "
            f"{kept}. {advice}"
        )

    def _keep_evidence(self, step: int) -> Path:
        assert self.folder is not None
        folder = self.folder / f"nonfinite_step_{step + 1}"
        batch = {name: tensor.clone() for name, tensor in self._batch(step).items()}
        indices = self.sampler.indices(step).tolist()
        save_tensors(
            folder / "batch.safetensors", batch, {"step": step + 1, "indices": indices}, kind="batch"
        )
        save_module(self.state.module, folder, {"step": step + 1, "note": "weights before this step"})
        return folder

    def _result(self, reason: str) -> TrainingResult:
        state = self.state
        module = state.adopt_best()
        self.close()
        if self.folder is not None and self.world.rank == 0:
            facts = {
                "training": to_plain(self.config),
                "task": self.task.options(),
                "data": state.identity["data"],
                "steps": state.step,
                "cpu_seconds": state.cpu_seconds,
                "stopped_by": reason,
                "best_step": state.best_step,
                self.task.metric: state.best_metric if math.isfinite(state.best_metric) else None,
            }
            save_module(module, self.folder, facts)
        return TrainingResult(
            module=module,
            steps=state.step,
            cpu_seconds=state.cpu_seconds,
            stopped_by=reason,
            best_step=state.best_step,
            best_metric=state.best_metric,
            validation=dict(state.validation),
            run_directory=self.folder,
        )
