"""The numbered examples run, and print numbers that support what they say."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXACT = 1e-12  # of an invariance in float64
NUMBER = r"\s+([0-9.]+(?:e[+-]?\d+)?)"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="no examples: these tests run away from the checkout"
)


def number(output: str, label: str) -> float:
    """The first number after a label."""
    found = re.search(re.escape(label) + NUMBER, output)
    assert found, f"{label!r} and a number are not in the output:\n{output}"
    return float(found[1])


def forces(output: str) -> None:
    assert number(output, "largest net force") < EXACT < number(output, "largest force")
    assert number(output, "torchdiffeq, rk4") < 1e-3 > number(output, "leapfrog")


def springs(output: str) -> None:
    assert number(output, "LieTransformer") < 0.01 * number(output, "free motion")


def groups(output: str) -> None:
    for name in ("soft frames              E(3)", "chirality   SE(3)", "octahedral group         T(3)xO"):
        assert number(output, name) < EXACT
    assert number(output, "random lifts of SE(3)  SE(3)") > 1e-3


def own_system(output: str) -> None:
    assert number(output, "rms error of") < 0.2 * number(output, "particles moved by")


def solar_system(output: str) -> None:
    assert number(output, "LieTransformer") < 0.2 * number(output, "circular orbits")
    assert number(output, "Newton's law, same integrator") < number(output, "circular orbits")


CHECKS: dict[str, Callable[[str], None]] = {
    "01_forces_and_trajectories.py": forces,
    "02_train_springs.py": springs,
    "03_groups_and_equivariance.py": groups,
    "04_own_system.py": own_system,
    "05_solar_system.py": solar_system,
}


def test_every_example_is_checked() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_example_runs_and_says_the_truth(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    CHECKS[name](capsys.readouterr().out)
    assert not list(tmp_path.iterdir()), "an example left files behind"
