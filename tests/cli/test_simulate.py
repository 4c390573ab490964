"""``lie-sim simulate`` and what looks at its runs, as a user types them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule

from lie_sim import save_model
from lie_sim.calculators import LieTransformerCalculator
from lie_sim.data.structure_files import from_atoms
from lie_sim.distributed import Run, simulate
from lie_sim.distributed.run_intervals import intervals_of_ends
from lie_sim.models import AtomicPotential, GraphClassifier, GraphClassifierConfig
from lie_sim.rollout import rollout
from lie_sim.shipped import resolve_model
from lie_sim.systems import Springs

Command = Callable[..., Any]
SPRINGS = ["springs", "--steps", 40, "--save-every", 10, "--segment", 20, "--chunk", 4, "--no-progress"]
PATIENCE = 120.0
"""Seconds that a command in another process may take to begin."""


def test_simulate_and_look(lie_sim: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made = lie_sim("simulate", *SPRINGS, "--out", folder, "--seed", 3)
    assert (made.code, made.err) == (0, "")
    assert "segments                             6 of 6 (100.0%)" in made.out
    assert Run(folder).manifest.method == "pefrl"
    state, particles = Springs().sample(10, generator=torch.Generator().manual_seed(3))
    options = {"step_size": 0.01, "num_steps": 40, "save_every": 10, "batch_size": 4}
    assert np.array_equal(
        Run(folder).trajectory(9).q[:], rollout(Springs(), state, particles, **options).q[9]
    )
    about = lie_sim("info", folder)
    assert about.code == 0, about.err
    assert re.search(r"^chunks +3 of up to 4 systems$", about.out, flags=re.MULTILINE)
    assert re.search(r"^  save_every +10$", about.out, flags=re.MULTILINE)
    assert re.search(r"^  torch +2", about.out, flags=re.MULTILINE)
    lines = lie_sim("status", folder).out.splitlines()
    begins = {found.end() for line in lines if (found := re.match(r".*?\s{2,}(?=\S)", line))}
    assert ("times begun" in lines[-1], len(begins)) == (True, 1), lines
    for words in (["status"], ["watch", "--every", 0.01], ["resume", "--no-progress"]):
        seen = lie_sim(words[0], folder, *words[1:])
        assert seen.code == 0
        assert "10" in seen.out
    done = lie_sim("resume", folder, "--address", "127.0.0.1:1")  # nothing is left to do
    assert (done.code, done.err) == (0, "")
    verified = lie_sim("verify", folder)
    assert (verified.code, verified.out.splitlines()[-1].split()) == (0, ["sound", "yes"])
    assert lie_sim("compact", folder).out == "3 of 3 chunks are packed\n"
    assert lie_sim("export", folder, tmp_path / "xyz", "--format", "extxyz", "--trajectories", 2, 7).code == 0
    assert [path.name for path in sorted((tmp_path / "xyz").iterdir())] == ["000002.extxyz", "000007.extxyz"]
    absent = lie_sim("export", folder, tmp_path / "more", "--format", "extxyz", "--trajectories", 99)
    assert (absent.code, absent.err.count("\n"), "the trajectories 0 to 9, not 99" in absent.err) == (
        2,
        1,
        True,
    )
    again = lie_sim("export", folder, tmp_path / "xyz", "--format", "extxyz")
    assert (again.code, "is there already" in again.err) == (2, True)


def test_a_trained_model_starts_from_its_own_system(
    lie_sim: Command, springs_run: Path, tmp_path: Path
) -> None:
    made = lie_sim(
        "simulate", springs_run, "--steps", 2, "--segment", 1, "--out", tmp_path / "run", "--no-progress"
    )
    assert (made.code, made.err) == (0, "")
    assert Run(tmp_path / "run").trajectory(0).q.shape == (3, 6, 2)


def test_atoms_from_a_file_at_a_temperature(lie_sim: Command, tmp_path: Path) -> None:
    save_model(AtomicPotential.default(elements=(1,)), tmp_path / "model")
    ase.io.write(tmp_path / "h.xyz", [Atoms("H3", np.eye(3)), Atoms("H2", np.eye(3)[:2])])
    words = ["--structures", tmp_path / "h.xyz", "--num-systems", 5, "--temperature", 300, "--seed", 2]
    words += ["--method", "langevin_middle", "--friction", 0.01, "--steps", 4, "--segment", 2]
    made = lie_sim("simulate", tmp_path / "model", *words, "--out", tmp_path / "run", "--no-progress")
    assert (made.code, made.err, "4 of 0.5 fs with langevin_middle" in made.out) == (0, "", True)
    run = Run(tmp_path / "run")
    assert [run.trajectory(k).q.shape[1] for k in range(5)] == [3, 2, 3, 2, 3]
    assert run.manifest.dt == pytest.approx(0.5 * units.fs)
    expected = {"temperature": 300 * units.kB, "friction": 0.01 / units.fs, "seed": 2}
    assert run.manifest.method_options == pytest.approx(expected)
    usual = ["--structures", tmp_path / "h.xyz", "--steps", 2, "--segment", 2, "--out", tmp_path / "usual"]
    assert lie_sim("simulate", tmp_path / "model", *usual, "--no-progress").code == 0
    assert Run(tmp_path / "usual").manifest.method == "leapfrog"
    last = tmp_path / "last.traj"
    assert lie_sim("export", tmp_path / "run", last, "--trajectories", 2).code == 0
    further = ["--structures", f"{last}@-1", "--steps", 2, "--segment", 2, "--out", tmp_path / "further"]
    assert lie_sim("simulate", tmp_path / "model", *further, "--no-progress").code == 0
    refused = lie_sim("simulate", tmp_path / "model", "--structures", f"{last}@end", "--out", tmp_path / "no")
    assert refused.code == 2
    assert "expected a number or a slice after @, such as -1 or 10:, got 'end'" in refused.err
    begun, ended = Run(tmp_path / "further").trajectory(0), run.trajectory(2)
    assert len(begun.times) == 3
    for name in ("q", "p"):
        assert getattr(begun, name)[0] == pytest.approx(getattr(ended, name)[-1], abs=1e-6)
    p = np.stack([run.trajectory(k).p[0] for k in (0, 2, 4)])
    assert np.abs(p.sum(1)).max() < 1e-6, "the whole moves"
    assert 0.1 < (p**2).mean() / (1.008 * 300 * units.kB) < 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sprigns"], "is no folder, no system .*; did you mean springs"),
        (["springs", "--structures", "a.xyz"], "--structures needs a potential of atoms"),
        (["springs", "--system", "pendulums"], "the model is the system springs itself"),
        (["springs", "--method", "leapforg"], "unknown method 'leapforg'; did you mean leapfrog"),
        (["springs", "--step-size", "-1"], "--step-size must be positive"),
        (["springs", "--friction", "1"], "pefrl has no option friction"),
        (["springs", "--segment", "soon"], "a time such as '30s'"),
        (["springs", "--workers", "2"], "workers=2 needs a cluster"),
        (["springs", "--address", "127.0.0.1:1"], "no Ray at '127.0.0.1:1'"),
        (["springs", "--num-systems", "0"], "--num-systems must be at least 1"),
        (["springs", "--temperature", "1"], "pefrl keeps the energy, so it has no use for --temperature"),
        (
            ["springs", "--steps", "61", "--save-every", "5"],
            "--steps must be a multiple of .* use --steps=65",
        ),
        (["organic-gfn"], "did you mean organic-gfn2"),
        (
            ["springs", "--method", "langevin_middle"],
            "langevin_middle keeps a temperature: give --temperature",
        ),
        (["springs", "--temperature", "-1"], "--temperature must not be negative"),
        (["springs", "--device", "meta2"], "this process has no device 'meta2'"),
    ],
)
def test_mistakes(lie_sim: Command, words: list[str], message: str, tmp_path: Path) -> None:
    failed = lie_sim("simulate", *words, "--out", tmp_path / "run", "--no-progress")
    assert (failed.code, failed.err.count("\n")) == (1 if "--address" in words else 2, 1)
    assert re.search(message, failed.err), failed.err
    assert not (tmp_path / "run").exists(), "what is refused leaves nothing"


def test_a_model_without_an_energy_moves_nothing(lie_sim: Command, tmp_path: Path) -> None:
    model = GraphClassifier(GraphClassifierConfig(num_features=1, num_classes=2, width=8))
    save_model(model, tmp_path / "graphs")
    assert "symmetry      permutations" in lie_sim("info", tmp_path / "graphs").out
    failed = lie_sim("simulate", tmp_path / "graphs", "--out", tmp_path / "run")
    assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert "a run needs a potential" in failed.err


def test_an_export_of_an_unfinished_run_says_so(lie_sim: Command, tmp_path: Path) -> None:
    start = Springs().sample(3, generator=torch.Generator().manual_seed(0))
    options = {"steps": 40, "dt": 0.01, "save_every": 10, "segment": 20, "store": tmp_path / "run"}
    next(simulate(Springs(), start, wait=False, **options).stream())
    made = lie_sim("export", tmp_path / "run", tmp_path / "xyz", "--format", "extxyz")
    assert (made.code, "as far as it is: 1 of 2 segments" in made.out) == (0, True), made.out


def test_workers_have_the_threads_of_the_command(lie_sim: Command, tmp_path: Path) -> None:
    here = torch.get_num_threads()
    try:
        assert lie_sim("simulate", *SPRINGS, "--out", tmp_path / "run", "--threads", 2).code == 0
    finally:
        torch.set_num_threads(here)
    assert Run(tmp_path / "run").manifest.threads == 2


def test_charges_of_a_file_of_tensors_are_kept(lie_sim: Command, tmp_path: Path) -> None:
    atoms = Atoms("H2", np.eye(3)[:2], info={"charge": 1})
    from_atoms([atoms]).save(tmp_path / "ions.safetensors")
    save_model(AtomicPotential.default(elements=(1,), inputs=("charge",)), tmp_path / "model")
    words = ["--structures", tmp_path / "ions.safetensors", "--steps", 1, "--segment", 1, "--no-progress"]
    assert lie_sim("simulate", tmp_path / "model", *words, "--out", tmp_path / "run").code == 0
    attributes = Run(tmp_path / "run").start(0).particles.attributes
    assert attributes is not None
    assert attributes.tolist() == [[[1.0], [1.0]]]


def test_an_element_that_the_model_does_not_know_is_one_line(lie_sim: Command, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "two.xyz", [Atoms("H2", np.eye(3)[:2]), Atoms("SH2", np.eye(3))])
    words = ["--structures", tmp_path / "two.xyz", "--steps", 1, "--out", tmp_path / "run", "--no-progress"]
    failed = lie_sim("simulate", "organic-gfn2", *words)
    assert (failed.code, failed.err.count("\n")) == (2, 1), failed.err
    assert "structure 1, H2S: this model does not know the element S" in failed.err


def test_intervals_of_the_ends_are_told(lie_sim: Command, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "two.xyz", [molecule("H2O"), molecule("CH4")])
    words = ["--structures", tmp_path / "two.xyz", "--steps", 4, "--no-progress", "--chunk", 1]
    made = lie_sim("simulate", "organic-gfn2", *words, "--out", tmp_path / "run")
    run = Run(tmp_path / "run")
    found = intervals_of_ends(run, resolve_model("organic-gfn2"))
    assert found is not None
    assert f"interval of energies                 {found}" in made.out, made.out
    calculator = LieTransformerCalculator("organic-gfn2", on_uncertain="ignore")
    for frame, told in ((0, found.first), (-1, found.last)):
        for k, atoms in enumerate((molecule("H2O"), molecule("CH4"))):
            atoms.positions = np.asarray(run.trajectory(k).q[frame])
            low, high = calculator.evaluate(atoms, ["energy_interval"])["energy_interval"]
            assert abs(told[k] - (high - low) / 2) < 1e-5
    assert found.coverage == 0.9


def test_without_a_calibration_nothing_is_told(lie_sim: Command, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "one.xyz", molecule("H2O"))
    save_model(AtomicPotential.default(elements=(1, 8)), tmp_path / "model")
    words = ["--structures", tmp_path / "one.xyz", "--steps", 2, "--no-progress", "--out", tmp_path / "run"]
    made = lie_sim("simulate", tmp_path / "model", *words)
    assert (made.code, "interval of energies" in made.out) == (0, False), made.err


def test_a_file_without_structures(lie_sim: Command, tmp_path: Path) -> None:
    (tmp_path / "none.extxyz").touch()
    failed = lie_sim("simulate", "organic-gfn2", "--structures", tmp_path / "none.extxyz", "--num-systems", 2)
    assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert "none.extxyz has no structure" in failed.err or "cannot be read" in failed.err


def test_a_folder_without_a_run(lie_sim: Command, tmp_path: Path) -> None:
    for command in ("resume", "status", "watch", "verify", "compact"):
        failed = lie_sim(command, tmp_path)
        assert (failed.code, failed.err.count("\n")) == (2, 1)
        assert f"no run in {tmp_path}" in failed.err


def test_damage_is_reported_and_repaired(lie_sim: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lie_sim("simulate", *SPRINGS, "--out", folder)
    path = Run(folder).store.path(1, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    failed = lie_sim("verify", folder, "--repair")
    assert failed.code == 2
    assert "was altered after it was written" in failed.err
    assert f"lie-sim resume {folder} makes damaged segments again" in failed.err
    assert lie_sim("resume", folder, "--no-progress").code == 0
    assert path.read_bytes() == whole
    assert lie_sim("verify", folder).code == 0


def test_ctrl_c_says_how_to_go_on(lie_sim: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [
        "simulate",
        "springs",
        "--steps",
        "100000",
        "--segment",
        "100",
        "--out",
        str(folder),
        "--no-progress",
    ]
    command = [sys.executable, "-m", "lie_sim.cli.main", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while len([*folder.glob("seg/*/*")]) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"To go on: lie-sim resume {folder}" in message
    assert [*(folder / "tmp").iterdir()] == []
    last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["reason"]) == ("stop", "KeyboardInterrupt")
    assert lie_sim("verify", folder).code == 0
