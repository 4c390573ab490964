"""Training on Ray: killed workers, drivers and nodes change nothing.

The undisturbed run is one of two processes without Ray.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from lie_sim.distributed import RayFit, train
from lie_sim.distributed.cluster import LOCAL, environment
from lie_sim.distributed.train import LocalFit
from lie_sim.distributed.with_ray import with_ray
from lie_sim.errors import MissingPackageError, NonFiniteError
from lie_sim.training import read_metrics
from lie_sim.training import train as train_here
from lie_sim.training.world import World
from tests.distributed.conftest import OBJECT_STORE
from tests.training.test_world import CONFIG, ROUNDING, Line, model, together, weights

PATIENCE = 250.0
"""Seconds that a driver in another process may take to begin and to be killed."""

DRIVER = """
import os, sys
from lie_sim.distributed import RayFit
from tests.distributed.test_train import CONFIG, Fragile, model
task = Fragile(sys.argv[2], "worker", os.getpid())
RayFit(workers=2, address=sys.argv[1], report_every=0)(model(), task, CONFIG, sys.argv[2], progress=False)
"""


class Fragile(Line):
    """Each time the workers begin, the first of them to come to its third step kills another victim."""

    at_call = 3

    def __init__(self, folder: str | Path, *victims: int | str) -> None:
        super().__init__()
        self.folder, self.victims, self.calls, self.turn = Path(folder), victims, 0, 0

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        self.calls += 1
        if self.calls == 1:
            self.turn = len(list(self.folder.glob("killed-*")))
        if self.calls == self.at_call and self.turn < len(self.victims):
            self.kill(self.victims[self.turn], len(batch["x"]))
        return super().loss(module, batch)

    def kill(self, victim: int | str, rows: int) -> None:
        here = {"worker": [os.getpid()], "node": [os.getppid(), os.getpid()]}
        with contextlib.suppress(FileExistsError), (self.folder / f"killed-{self.turn}").open("x") as marker:
            marker.write(str(rows))
            marker.flush()
            for process in here.get(str(victim)) or [int(victim)]:
                os.kill(process, signal.SIGKILL)
            time.sleep(60)  # until Ray ends this process, so that the run is not finished first


class Experiment:
    """What training needs of one."""

    def run(self, directory: str | Path, *, progress: bool, fit: Any = train_here) -> Any:
        return fit(model(), Line(), CONFIG, directory, progress=progress)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    folder = tmp_path_factory.mktemp("two")
    together(folder)
    return weights(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers must be positive"),
        ({"workers": (3, 2)}, r"got \(3, 2\)"),
        ({"workers": 0, "address": "auto"}, "without workers there is no use for address"),
        ({"workers": 2, "threads": 0}, "threads must be at least 1, got 0"),
        ({"workers": 2, "retries": -1}, "retries must be at least 0"),
        ({"workers": 2, "device": "tpu"}, "device must be 'cpu' or 'cuda'"),
        ({"device": "gpu"}, "device must be one that PyTorch has here, got 'gpu'"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(Experiment(), run=tmp_path, **options)


def test_without_workers_it_is_the_local_loop(tmp_path: Path) -> None:
    train(Experiment(), run=tmp_path / "a")
    train_here(model(), Line(), CONFIG, tmp_path / "b", progress=False)
    assert torch.equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_the_local_loop_gets_the_module_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without storage stands for a GPU."""
    devices = list[str]()

    def fit(module: nn.Module, *_: Any, **__: Any) -> NoReturn:
        devices.extend(p.device.type for p in module.parameters())
        raise InterruptedError

    monkeypatch.setattr(sys.modules["lie_sim.distributed.train"], "train_here", fit)
    with pytest.raises(InterruptedError):
        LocalFit("meta")(model(), Line(), CONFIG, "unused")
    assert set(devices) == {"meta"}


def test_ray_is_imported_after_its_environment_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it listens on all addresses; where parts of it are missing, that is said."""
    order = list[str]()

    @contextlib.contextmanager
    def connected(address: str, *, workers: int) -> Iterator[None]:
        order.append(f"{workers} at {address}")
        yield

    def missing(name: str) -> None:
        order.append(name)
        raise ImportError("no module named pandas")

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr("lie_sim.distributed.with_ray.cluster", connected)
    monkeypatch.setattr("lie_sim.distributed.with_ray.importlib.import_module", missing)
    with (
        pytest.raises(MissingPackageError, match=r"no module named pandas.*pip install 'lie_sim\[train\]'"),
        with_ray("ray_train", None, processors=2),
    ):
        pass
    assert order == ["2 at local", "lie_sim.distributed.ray_train"]


@pytest.fixture(scope="module")
def ray_train() -> Any:
    """Imported as the package does it: Ray reads its environment then."""
    with environment(LOCAL):
        return pytest.importorskip("lie_sim.distributed.ray_train", exc_type=ImportError)


@pytest.fixture
def quick_polls(ray_train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")  # it may ask for a node that just died


@pytest.mark.ray
@pytest.mark.timeout(900)  # Ray waits for the dead node for a while, longer on a busy machine
def test_a_node_dies_and_the_others_go_on(quick_polls: None, nodes: Any, tmp_path: Path) -> None:
    """Before the next test: Ray keeps the places of a driver that was killed for three minutes."""
    RayFit(workers=(1, 2))(model(), Fragile(tmp_path, "node"), CONFIG, tmp_path, progress=False)
    assert int((tmp_path / "killed-0").read_text()) < CONFIG.batch_size
    train_here(model(), Line(), CONFIG, tmp_path / "alone", progress=False)
    torch.testing.assert_close(weights(tmp_path), weights(tmp_path / "alone"), rtol=ROUNDING, atol=0)
    nodes.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)


@pytest.mark.ray
def test_a_worker_is_killed_and_then_the_driver(
    quick_polls: None, nodes: Any, undisturbed: Tensor, tmp_path: Path
) -> None:
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in [".", *sys.path] if entry)
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, nodes.address, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert driver.returncode == -signal.SIGKILL, driver.stderr.decode()
    assert not (tmp_path / "weights.safetensors").exists()
    result = RayFit(workers=2)(model(), Fragile(tmp_path), CONFIG, tmp_path, progress=True)
    assert torch.equal(weights(tmp_path), undisturbed)
    assert result.steps == CONFIG.max_steps
    assert len(list(tmp_path.glob("killed-*"))) == 2
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 3, 4, 6]


def test_only_errors_that_would_come_again_are_told(
    ray_train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray starts the workers again after any other."""
    monkeypatch.setattr(ray_train.ray, "get", lambda reference: reference)
    monkeypatch.setattr(ray_train, "RayWorld", lambda report_every: World())
    crew = ray_train.Crew(2, threads=1, on_gpu=False, retries=0, report_every=0, resize_every=0)
    job = {"crew": crew, "config": CONFIG, "folder": tmp_path}
    assert ray_train.work(job | {"learning": (model(), Line())}) is None
    found = ray_train.work(job | {"learning": (model(), Line(bad=True)), "folder": tmp_path / "bad"})
    assert isinstance(found, NonFiniteError)
    monkeypatch.setattr(Line, "loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ray_train.work(job | {"learning": (model(), Line()), "folder": tmp_path / "other"})
