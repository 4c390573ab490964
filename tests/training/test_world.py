"""Processes that share every batch: without Ray, two of them on this machine, against the single one."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributed, multiprocessing, nn

from lie_sim.data.storage import load_tensors
from lie_sim.errors import ConfigError, NonFiniteError
from lie_sim.training import TrainingConfig, read_metrics, train
from lie_sim.training.tasks import TensorTask
from lie_sim.training.world import ProcessGroup, World

ROUNDING = 1e-12
"""Of float64 weights after a few steps, where sums are taken in another order."""
CONFIG = TrainingConfig(
    max_steps=6,
    batch_size=7,
    warmup_steps=0,
    validate_every=3,
    log_every=2,
    checkpoint_every=2,
    dtype="float64",
)


class Line(TensorTask):
    """y = w·x by least squares; a random part of every batch, and NaN from some step on if wished."""

    option_names = ("bad",)

    def __init__(self, bad: bool = False) -> None:
        x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        super().__init__({"x": x, "y": x.sum(1)}, {"x": x, "y": x.sum(1)})
        self.bad = bad

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        found = super().batch(indices, generator)
        noise = torch.randn(found["x"].shape, generator=generator, dtype=torch.float64)
        return {**found, "x": found["x"] + 0.1 * noise}

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        error = module(batch["x"])[:, 0] - batch["y"]
        return error.square().mean() * (float("nan") if self.bad else 1.0)

    def validate(self, module: nn.Module) -> dict[str, float]:
        return {"validation_loss": float(self.loss(module, self._validation).detach())}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1, bias=False)


class Member(World):
    """One of several processes, as far as its share goes."""

    share = ProcessGroup.share

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def member(rank: int, port: int, folder: str, config: TrainingConfig, bad: bool) -> None:
    """One of two processes; the errors of both are kept."""
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        train(model(), Line(bad), config, Path(folder), progress=False, world=ProcessGroup())
    except Exception as error:
        Path(folder, f"error_{rank}").write_text(f"{type(error).__name__}: {error}")
    distributed.destroy_process_group()


def together(folder: Path, config: TrainingConfig = CONFIG, *, bad: bool = False) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    multiprocessing.start_processes(member, (port, str(folder), config, bad), nprocs=2, start_method="fork")


def weights(folder: Path) -> Tensor:
    tensors, _ = load_tensors(folder / "weights.safetensors", kind="weights")
    return tensors["weight"]


@given(rows=st.integers(1, 30), size=st.integers(1, 8))
def test_shares_are_the_batch(rows: int, size: int) -> None:
    batch = {"a": torch.arange(rows), "b": torch.randn(rows, 2)}
    if rows < size:
        with pytest.raises(ConfigError, match=f"a batch of {rows} cannot be shared by {size} workers"):
            Member(0, size).share(batch)
        return
    shares = [Member(rank, size).share(batch) for rank in range(size)]
    assert sorted(torch.cat([share["a"] for share, _ in shares]).tolist()) == list(range(rows))
    assert sum(part for _, part in shares) == pytest.approx(1, abs=1e-12)
    assert max(part for _, part in shares) - min(part for _, part in shares) <= 1 / rows + 1e-12


def test_two_processes_follow_one_and_resume_to_the_bit(tmp_path: Path) -> None:
    alone = train(model(), Line(), CONFIG, tmp_path / "alone", progress=False)
    together(tmp_path / "whole")
    found = train(model(), Line(), CONFIG, tmp_path / "whole", progress=False)  # finished: nothing is trained
    assert found.best_metric == pytest.approx(alone.best_metric, rel=ROUNDING)
    torch.testing.assert_close(found.module.weight, alone.module.weight, rtol=ROUNDING, atol=0)
    losses = [
        [row["train_loss"] for row in read_metrics(tmp_path / x / "metrics.jsonl")]
        for x in ("alone", "whole")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=ROUNDING)

    parts = tmp_path / "parts"
    together(parts)
    for path in sorted((parts / "checkpoints").iterdir())[1:]:  # as if killed after step 4
        path.unlink()
    (parts / "weights.safetensors").unlink()
    shutil.copytree(parts, tmp_path / "fewer")
    together(parts)
    assert torch.equal(weights(parts), weights(tmp_path / "whole"))
    train(model(), Line(), CONFIG, tmp_path / "fewer", progress=False)  # the rest with one process
    torch.testing.assert_close(weights(tmp_path / "fewer"), weights(parts), rtol=ROUNDING, atol=0)


def test_both_stop_with_the_same_error(tmp_path: Path) -> None:
    together(tmp_path / "bad", bad=True)
    messages = {(tmp_path / "bad" / f"error_{rank}").read_text() for rank in range(2)}
    (message,) = messages
    assert message.startswith(NonFiniteError.__name__)
    assert "nonfinite_step_1" in message
    together(tmp_path / "small", replace(CONFIG, batch_size=1))
    assert (tmp_path / "small" / "error_1").read_text().startswith("ConfigError: a batch of 1 cannot")


def test_alone_nothing_is_shared() -> None:
    batch: dict[str, Any] = {"a": torch.ones(3)}
    assert World().share(batch) == (batch, 1.0)
    assert World().first(lambda: 3) == 3
