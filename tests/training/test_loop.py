"""The training loop: averages, early stopping, stopping at NaN, Ctrl-C, and resuming bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.checkpoint import load_model, model_metadata
from lie_sim.data import make_trajectories
from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.errors import CheckpointError, ConfigError, NonFiniteError, TrainingInterrupted
from lie_sim.lifting import HaarLift
from lie_sim.systems import Springs
from lie_sim.training import DerivativeTask, TrainingConfig, TrainingResult, read_metrics, train
from lie_sim.training.schedule import Sampler
from lie_sim.training.tasks import TensorTask

REPOSITORY = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8, "num_attributes": 1}
QUICK = TrainingConfig(
    max_steps=12, batch_size=4, warmup_steps=3, log_every=2, validate_every=4, checkpoint_every=5
)


class Mean(TensorTask):
    """Fit one number to the mean of the data; simple enough to follow by hand."""

    def __init__(self, values: Tensor) -> None:
        super().__init__({"x": values}, {"x": values})
        self.validations: list[float] = []
        self.scripted: list[float] = []

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return (module.weight - batch["x"]).square().mean()

    def validate(self, module: nn.Module) -> dict[str, float]:
        self.validations.append(module.weight.item())
        value = self.scripted.pop(0) if self.scripted else module.weight.item()
        return {"validation_loss": value}


class Number(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def dynamics(seed: int = 0) -> DerivativeTask:
    times = torch.linspace(0, 0.04, 5, dtype=torch.float64)
    data = make_trajectories(Springs(num_particles=3), 14, seed=seed, times=times)
    return DerivativeTask(data[:10], data[10:])


def hamiltonian(**options: Any) -> Hamiltonian:
    torch.manual_seed(5)
    return Hamiltonian(LieTransformer.default(**{**SMALL, **options}))


def quiet(
    module: nn.Module, task: Any, config: TrainingConfig, folder: Path | None = None, **options: Any
) -> TrainingResult:
    return train(module, task, config, folder, progress=False, **options)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_average_by_hand() -> None:
    """One weight, one value: every step and every average can be followed with torch's own AdamW."""
    config = TrainingConfig(
        max_steps=6, warmup_steps=2, clip_norm=0.0, validate_every=1, ema_decay=0.4, dtype="float64"
    )
    task, weight = (
        Mean(torch.ones(1, dtype=torch.float64)),
        torch.zeros(1, dtype=torch.float64, requires_grad=True),
    )
    quiet(Number(), task, config)
    optimizer = torch.optim.AdamW([weight], betas=config.betas, weight_decay=config.weight_decay)
    average, expected = 0.0, []
    for step in range(6):
        cosine = (
            0.001 + 0.999 * (1 + torch.cos(torch.tensor(torch.pi * step / 6, dtype=torch.float64)).item()) / 2
        )
        optimizer.param_groups[0]["lr"] = 0.003 * min(1, (step + 1) / 2) * cosine
        weight.grad = 2 * (weight.detach() - 1)
        optimizer.step()
        decay = min(0.4, (step + 2) / (step + 11))
        average = decay * average + (1 - decay) * weight.item()
        expected.append(average)
    assert task.validations == pytest.approx(expected, rel=1e-12)  # float64 rounding


def test_gradients_are_clipped() -> None:
    """AdamW does not see the scale of a constant gradient, but of one that changes after the first step."""
    config = TrainingConfig(max_steps=4, batch_size=1, warmup_steps=0, validate_every=1)
    tasks = [Mean(1000 * torch.rand(4, generator=torch.Generator().manual_seed(0))) for _ in range(2)]
    for task, clip in zip(tasks, (0.0, 1.0), strict=True):
        quiet(Number(), task, replace(config, clip_norm=clip))
    assert tasks[0].validations != tasks[1].validations


def test_early_stopping_keeps_the_best_average() -> None:
    task = Mean(torch.ones(4))
    task.scripted = [3.0, 1.0, 2.0, float("nan"), 2.0, 0.0]
    config = replace(QUICK, max_steps=100, validate_every=2, patience=3)
    result = quiet(Number(), task, config)
    assert (result.stopped_by, result.steps) == ("early_stopping", 10)
    assert (result.best_step, result.best_metric) == (4, 1.0)
    assert result.module.weight.item() == task.validations[1]
    assert not result.module.training


def test_cpu_budget_ends_the_run() -> None:
    result = quiet(Number(), Mean(torch.ones(4)), replace(QUICK, max_steps=0, max_cpu_seconds=0.2))
    assert result.stopped_by == "max_cpu_seconds"
    assert 0.2 <= result.cpu_seconds < 2.0
    assert result.validation  # there is one at the end, wherever that is


def test_training_lowers_the_loss_and_saves_the_result(tmp_path: Path) -> None:
    result = quiet(hamiltonian(), dynamics(), replace(QUICK, max_steps=60, learning_rate=0.03), tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["validation_loss"] < 0.5 * rows[1]["validation_loss"]
    assert [row["step"] for row in rows] == list(range(2, 61, 2))
    assert {"cpu_seconds", "train_loss", "learning_rate", "grad_norm"} < set(rows[0])
    assert same_weights(load_model(tmp_path / "model"), result.module)
    assert model_metadata(tmp_path / "model")["validation_loss"] == result.best_metric
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_the_random_state_outside_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    quiet(Number(), Mean(torch.ones(4)), QUICK)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run(tmp_path: Path, where: str) -> None:
    class Poisoned(Mean):
        calls = 0

        def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            self.calls += 1
            value = super().loss(module, batch)
            if self.calls < 7:
                return value
            return value * float("inf") if where == "loss" else value + (0 * module.weight).sqrt().sum()

    module, config = Number(), replace(QUICK, learning_rate=1e-2)
    with pytest.raises(NonFiniteError, match=r"step 7 .*nonfinite_step_7.*Lower learning_rate"):
        quiet(module, Poisoned(torch.arange(8.0)), config, tmp_path)
    assert module.weight.isfinite().all()
    batch, facts = load_tensors(tmp_path / "nonfinite_step_7" / "batch.safetensors", kind="batch")
    assert facts["indices"] == Sampler(8, 4, seed=0).indices(6).tolist()
    assert batch["x"].tolist() == [float(index) for index in facts["indices"]]
    weights, _ = load_tensors(tmp_path / "nonfinite_step_7" / "weights.safetensors", kind="weights")
    assert torch.equal(weights["weight"], module.weight.detach())


def stop_at(task: Any, step: int) -> Any:
    """The same task, with Ctrl-C pressed in one step."""
    calls, loss = [0], task.loss

    def pressed(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        calls[0] += 1
        if calls[0] == step:
            signal.raise_signal(signal.SIGINT)
        return loss(module, batch)

    task.loss = pressed
    return task


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_ctrl_c_in_any_step_then_resume_is_bit_exact(tmp_path: Path, optimizer: Any) -> None:
    config = replace(QUICK, optimizer=optimizer)
    undisturbed = quiet(hamiltonian(), dynamics(), config, tmp_path / "calm")
    task = dynamics()
    for step in (1, 4, 5):  # of each part of the run: steps 1, 5 and 10
        with pytest.raises(TrainingInterrupted, match="start the same run again with the run directory"):
            quiet(hamiltonian(), stop_at(dynamics(), step), config, tmp_path / "run")
    result = quiet(hamiltonian(), task, config, tmp_path / "run", resume="required")
    assert same_weights(result.module, undisturbed.module)
    assert (result.best_metric, result.validation) == (undisturbed.best_metric, undisturbed.validation)
    rows, expected = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "calm"))
    for row in (*rows, *expected):
        del row["cpu_seconds"]
    assert rows == expected


def test_ctrl_c_without_a_directory() -> None:
    with pytest.raises(TrainingInterrupted, match="nothing was kept"):
        quiet(hamiltonian(), stop_at(dynamics(), 2), QUICK)


def test_random_lifts_are_resumed_and_given_back(tmp_path: Path) -> None:
    options: dict[str, Any] = {"lifting": "haar", "group": "SE(2)", "num_lifts": 2, "lift_seed": 9}
    undisturbed = quiet(hamiltonian(**options), dynamics(), QUICK, tmp_path / "calm")
    with pytest.raises(TrainingInterrupted):
        quiet(hamiltonian(**options), stop_at(dynamics(), 7), QUICK, tmp_path / "run")
    result = quiet(hamiltonian(**options), dynamics(), QUICK, tmp_path / "run")
    assert same_weights(result.module, undisturbed.module)
    assert [lift.seed for lift in result.module.modules() if isinstance(lift, HaarLift)] == [9]
    fixed = quiet(hamiltonian(**options), dynamics(), replace(QUICK, resample_lifts=False))
    assert not same_weights(fixed.module, undisturbed.module)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = quiet(hamiltonian(), dynamics(), QUICK, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    torch.manual_seed(99)
    again = quiet(Hamiltonian(LieTransformer.default(**SMALL)), dynamics(), QUICK, tmp_path)
    assert again.steps == first.steps
    assert same_weights(again.module, first.module)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_restart_begins_again(tmp_path: Path) -> None:
    quiet(hamiltonian(), dynamics(), QUICK, tmp_path)
    (tmp_path / "nonfinite_step_7").mkdir()
    result = quiet(hamiltonian(), dynamics(), replace(QUICK, max_steps=3), tmp_path, resume="restart")
    assert result.steps == 3
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 3]
    assert model_metadata(tmp_path / "model")["steps"] == 3
    assert [path.stem for path in sorted((tmp_path / "checkpoints").iterdir())][-1] == "step_000000003"
    assert (tmp_path / "nonfinite_step_7").is_dir()


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Options that came later are missing in its checkpoint."""
    quiet(hamiltonian(), dynamics(), QUICK, tmp_path)
    path = sorted((tmp_path / "checkpoints").iterdir())[-1]
    tensors, facts = load_tensors(path, kind="training checkpoint")
    for options, late in (
        (facts["identity"]["config"], "betas"),
        (facts["identity"]["model"]["config"], "radial"),
    ):
        del options[late]
    save_tensors(path, tensors, facts, kind="training checkpoint")
    assert quiet(hamiltonian(), dynamics(), QUICK, tmp_path).steps == QUICK.max_steps
    facts["identity"]["model"]["config"]["gone"] = 1
    save_tensors(path, tensors, facts, kind="training checkpoint")
    with pytest.raises(CheckpointError, match="another model: config: gone: 1 before, None now"):
        quiet(hamiltonian(), dynamics(), QUICK, tmp_path)


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    quiet(hamiltonian(), dynamics(), QUICK, tmp_path)
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.003 and is 0\.1; seed was 0 and is 1"):
        quiet(hamiltonian(), dynamics(), replace(QUICK, learning_rate=0.1, seed=1), tmp_path)
    with pytest.raises(CheckpointError, match="another data"):
        quiet(hamiltonian(), dynamics(seed=3), QUICK, tmp_path)
    with pytest.raises(CheckpointError, match=r"another model: config: energy_scale: 1\.0 before, 2\.0 now"):
        quiet(hamiltonian(energy_scale=2.0), dynamics(), QUICK, tmp_path)
    with pytest.raises(CheckpointError, match="nothing to resume"):
        quiet(hamiltonian(), dynamics(), QUICK, tmp_path / "elsewhere", resume="required")
    assert quiet(hamiltonian(), dynamics(), replace(QUICK, checkpoint_every=1), tmp_path).steps == 12


def test_a_damaged_checkpoint_is_skipped(tmp_path: Path) -> None:
    expected = quiet(hamiltonian(), dynamics(), QUICK, tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="skipping a damaged checkpoint"):
        result = quiet(hamiltonian(), dynamics(), QUICK, tmp_path)
    assert same_weights(result.module, expected.module)
    for file in (tmp_path / "checkpoints").iterdir():
        file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="skipping"),
        pytest.raises(CheckpointError, match=r"every checkpoint .* is damaged"),
    ):
        quiet(hamiltonian(), dynamics(), QUICK, tmp_path)


def test_killed_runs_end_with_the_same_bits() -> None:
    """SIGKILL at seeded random moments; benchmarks/kill_and_resume.py does it twenty times."""
    script = [sys.executable, "benchmarks/kill_and_resume.py", "--kills", "4", "--steps", "30", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        script, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills" in done.stdout
    assert "all identical: True" in done.stdout


def test_sigint_to_a_process(tmp_path: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loop import *
try:
    quiet(hamiltonian(), dynamics(), replace(QUICK, max_steps=10**6, validate_every=0), Path({str(tmp_path)!r}))
except TrainingInterrupted as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        metrics = tmp_path / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    stopped = int(output.split("after step ")[1].split(";")[0])
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    assert newest.name == f"step_{stopped:09d}.safetensors"
