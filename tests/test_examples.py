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


def molecule_in_ase(output: str) -> None:
    assert number(output, "modes that do not vibrate:") < 1
    assert number(output, "relaxed: distances differ from the reference by") < 0.02
    assert number(output, "largest error of a frequency, cm⁻¹") < 60  # of 3110; in the soft bend
    assert number(output, "drift") < 0.01 * number(output, "kinetic energy")
    assert 200 < number(output, "mean temperature") < 400


def crystal_in_ase(output: str) -> None:
    assert abs(number(output, "lattice constant, Å") - 3.994) < 0.03  # EMT's own
    assert 30 < number(output, "bulk modulus, GPa") < 50
    assert 0.3 < number(output, "vacancy hop, eV") < 0.6
    assert number(output, "largest stress") < 50


def uncertainty(output: str) -> None:
    assert 86 < number(output, "90 % intervals:") < 94
    assert number(output, "surer half") < number(output, "other half")
    assert "the energy of H2O is uncertain" in output
    assert number(output, "the least certain: root mean square error") < number(
        output, "at random: root mean square error"
    )


def qm9_properties(output: str) -> None:
    assert abs(number(output, "C6H6") - 0) < 0.1  # D; benzene has an inversion centre
    assert abs(number(output, "CH4O") - 1.6) < 0.4  # methanol: B3LYP 1.55 to 1.7
    assert abs(number(output, "C2H3N") - 3.9) < 0.5  # acetonitrile: measured 3.92
    assert number(output, "to") < 1e-12


def infrared_spectrum(output: str) -> None:
    assert 1720 < number(output, "CH3COCH3: the strongest band is at") < 1840  # C=O; GFN2-xTB itself: 1784
    assert 3450 < max(map(float, re.findall(r"(\d+) cm⁻¹  ", output))) < 3700  # O–H; methanol by GFN2-xTB
    rigid = [float(each) for each in re.findall(r"whole are below ([\d.]+) cm⁻¹", output)]
    assert len(rigid) == 3
    assert max(rigid) < 1


CHECKS: dict[str, Callable[[str], None]] = {
    "01_forces_and_trajectories.py": forces,
    "02_train_springs.py": springs,
    "03_groups_and_equivariance.py": groups,
    "04_own_system.py": own_system,
    "05_solar_system.py": solar_system,
    "06_molecule_in_ase.py": molecule_in_ase,
    "07_crystal_in_ase.py": crystal_in_ase,
    "08_uncertainty.py": uncertainty,
    "09_qm9_properties.py": qm9_properties,
    "10_infrared_spectrum.py": infrared_spectrum,
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
