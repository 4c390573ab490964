"""Without an address nothing of Ray is imported, and wrong ones are explained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lie_sim.distributed import cluster
from lie_sim.distributed.cluster import environment

WITHOUT_RAY = """
import sys, torch
from lie_sim.distributed import cluster, simulate
from lie_sim.systems import Springs
system = Springs(num_particles=2)
with cluster():
    run = simulate(system, system.sample(2, generator=torch.Generator()), steps=2, dt=0.01, store=sys.argv[1])
assert run.status().complete
print("ray" in sys.modules)
"""


def test_here_means_without_ray(tmp_path: Path) -> None:
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


@pytest.mark.parametrize(("address", "workers"), [(None, 2), ("local", 0), ("auto", -1)])
def test_impossible_numbers_of_workers(address: str | None, workers: int) -> None:
    with (
        pytest.raises(ValueError, match="needs a cluster and must be at least 1"),
        cluster(address, workers=workers),
    ):
        pass


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIE_SIM_SET", "mine")
    with environment({"LIE_SIM_SET": "other", "LIE_SIM_NEW": "1"}):
        assert (os.environ["LIE_SIM_SET"], os.environ["LIE_SIM_NEW"]) == ("mine", "1")
    assert os.environ["LIE_SIM_SET"] == "mine"
    assert "LIE_SIM_NEW" not in os.environ
