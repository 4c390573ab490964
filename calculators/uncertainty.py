"""Standard deviations, intervals and bounds of a calculator's results, and what happens where they are too large.

Shape letters: B batch, N atoms, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from lie_sim.calculators.calibration import Calibration
from lie_sim.errors import UncertaintyError
from lie_sim.warning import warn

REACTIONS = ("ignore", "warn", "raise")
OF_FORCES = frozenset({"forces_std", "forces_bound"})
"""What the last layer tells only where it is asked for: it costs a reverse pass a feature."""


class UncertaintyWarning(UserWarning):
    """A system is unlike those that a calibration knows."""


def uncertainty_names(calibration: Calibration | None, *, ensemble: bool) -> tuple[str, ...]:
    """What a calculator tells of its uncertainty.

    Example:
        >>> uncertainty_names(None, ensemble=True)
        ('energy_std', 'forces_std')
    """
    if calibration is None:
        return ("energy_std", "forces_std") if ensemble else ()
    of_forces = ("forces_std", "forces_bound") if calibration.has_forces else ()
    return ("energy_std", "energy_interval", *of_forces)


def calibrated(results: Mapping[str, Any], calibration: Calibration) -> dict[str, Any]:
    """Results whose deviations are as the model has them, with deviations, intervals and bounds in eV and eV/Å.

    Args:
        results: with ``energy_std``, and ``forces_std`` if it is known.
        calibration: of the model.
    """
    sigma, energy = results["energy_std"], results["energy"]
    reach = calibration.energy_quantile * sigma
    added = {
        "energy_std": calibration.energy_scale * sigma,
        "energy_interval": np.array([energy - reach, energy + reach]),
    }
    if "forces_std" in results and calibration.has_forces:
        components = results["forces_std"]
        added["forces_std"] = calibration.forces_scale * components
        added["forces_bound"] = calibration.forces_quantile * np.linalg.norm(components, axis=1)
    return {**results, **added}


def complaint(results: Mapping[str, Any], calibration: Calibration, atoms: Atoms) -> str | None:
    """Why calibrated results cannot be relied on; None if they can.

    The text is the same for structures that are uncertain alike, so that Python shows a warning once.
    """
    name = atoms.get_chemical_formula()
    each, limit = results["energy_std"] / len(atoms), calibration.energy_scale * calibration.energy_limit
    if not each <= limit:
        return (
            f"the energy of {name} is uncertain: its standard deviation is {_times(each, limit)} the "
            f"limit, {1000 * limit:.2g} meV an atom, which 99 % of the calibration's structures stay below"
        )
    if "forces_std" not in results or not calibration.has_forces:
        return None
    sizes = np.linalg.norm(results["forces_std"], axis=1)
    worst, limit = int(np.argmax(sizes)), calibration.forces_scale * calibration.forces_limit
    if sizes[worst] <= limit:
        return None
    return (
        f"the force on atom {worst} ({atoms.symbols[worst]}) of {name} is uncertain: its standard deviation is "
        f"{_times(sizes[worst], limit)} the limit, {1000 * limit:.2g} meV/Å, which 99 % of the calibration's "
        "structures stay below"
    )


def _times(value: float, limit: float) -> str:
    """The ratio of the two to one digit; they may be anything but negative.

    Example:
        >>> _times(3.4, 1.0), _times(1.2, 1.0), _times(1.0, 0.0)
        ('3 times', '1 to 2 times', 'beyond all bounds of')
    """
    if not (limit > 0 and np.isfinite(value)):
        return "beyond all bounds of"
    return "1 to 2 times" if value < 2 * limit else f"{float(f'{value / limit:.1g}'):g} times"


def react(text: str | None, on_uncertain: str) -> None:
    """Warn, raise, or neither.

    Raises:
        UncertaintyError: there is a text, and ``on_uncertain`` is ``"raise"``.
    """
    if text is None or on_uncertain == "ignore":
        return
    text += "; check it with the reference method, or train on structures like it"
    if on_uncertain == "raise":
        raise UncertaintyError(text)
    warn(text, UncertaintyWarning)
