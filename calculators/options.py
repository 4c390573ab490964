"""What a calculator is made of: a model from wherever it is, and options, checked before anything is computed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from lie_sim.calculators.calibration import Calibration, stored_beside
from lie_sim.calculators.uncertainty import REACTIONS
from lie_sim.checkpoint import load_model
from lie_sim.descriptions import fingerprint
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import AtomicPotential
from lie_sim.shipped import resolve_model, shipped_models

DTYPES = {"float32": torch.float32, "float64": torch.float64}
Source = str | Path | AtomicPotential | Hamiltonian
"""A folder with a model, the name of one that comes with lie_sim, or the model itself."""


def potential_of(model: Any) -> AtomicPotential:
    """A copy of the potential of atoms that a path, a name or a model holds.

    Raises:
        CheckpointError: there is nothing under this path or name.
        TypeError: it holds none.

    Example:
        >>> potential_of(Hamiltonian(AtomicPotential.default(elements=(1, 8)))).config.elements
        (1, 8)
    """
    if model is None:
        raise TypeError(
            f"a model is needed: one that comes with lie_sim ({', '.join(shipped_models())}), or the folder of a "
            "trained one; in a shell: ase run lie_sim -p model=organic-gfn2 …"
        )
    loaded = load_model(model) if isinstance(model, str | Path) else model
    if isinstance(loaded, Hamiltonian):
        loaded = loaded.potential
    if not isinstance(loaded, AtomicPotential):
        raise TypeError(
            f"a potential of atoms (lie_sim.models.AtomicPotential) is needed, got {type(loaded).__name__}: "
            "other models do not know chemical elements"
        )
    return copy.deepcopy(loaded).eval()


def calibration_of(
    given: Calibration | str | Path | None, model: Any, models: Sequence[AtomicPotential]
) -> Calibration | None:
    """The calibration of some models.

    Args:
        given: itself, or its file; None means that in the folder of ``model``, if there is one for these models.
        model: as the calculator got it.
        models: all of them.

    Raises:
        ValueError: the one that was given is for other models.
    """
    prints = [fingerprint(each) for each in models]
    if given is None:
        found = stored_beside(resolve_model(model)) if isinstance(model, str | Path) else None
        return found if found is not None and sorted(found.models) == sorted(prints) else None
    chosen = given if isinstance(given, Calibration) else Calibration.load(given)
    chosen.require_models(prints)
    return chosen


def checked_options(
    potential: AtomicPotential,
    *,
    names: Sequence[str],
    device: Any,
    dtype: str | torch.dtype | None,
    skin: float,
    compute: Sequence[str] | None,
    info_keys: Sequence[str] | None,
    on_uncertain: str | None,
    compile: bool,
    is_calibrated: bool,
) -> dict[str, Any]:
    """Options as plain values.

    Args:
        potential: gives the dtype where none is said, and the ``info_keys`` that it reads.
        names: the properties that there are.
        device: of the calculator, as are the others.
        dtype: a key or a value of ``DTYPES``, or None.
        skin: in Å.
        compute: some of ``names``; None means energy and forces, if they are there.
        info_keys: None means those that the potential reads.
        on_uncertain: one of ``REACTIONS``; None means ``"warn"`` if there is a calibration.
        compile: whether to compile.
        is_calibrated: whether there is one.

    Raises:
        ValueError: an option is impossible.
    """
    dtype = str(dtype or next(potential.parameters()).dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if not isinstance(skin, Real) or not 0 <= skin < float("inf"):
        raise ValueError(f"skin must be a length in Å, not negative, got {skin!r}")
    for option, names_given in (("compute", compute), ("info_keys", info_keys)):
        if isinstance(names_given, str):
            raise ValueError(
                f"{option} must be a list of names, got {names_given!r}: write [{names_given!r}]"
            )
    if compute is None:
        compute = [name for name in ("energy", "forces") if name in names]
    unknown = sorted(set(compute) - set(names))
    if unknown:
        raise ValueError(f"compute: no property {', '.join(unknown)}; there are {', '.join(names)}")
    keys = tuple(dict.fromkeys((*potential.config.inputs, *(info_keys or ()))))
    if on_uncertain is None:
        on_uncertain = "warn" if is_calibrated else "ignore"
    if on_uncertain not in REACTIONS:
        raise ValueError(f"on_uncertain must be one of {', '.join(REACTIONS)}, got {on_uncertain!r}")
    if on_uncertain != "ignore" and not is_calibrated:
        raise ValueError(
            f"on_uncertain={on_uncertain!r} needs a calibration, which says what is usual: make one with "
            "lie-sim calibrate RUN, which keeps it beside the model, or with Calibration.fit(calculator, held_out) and "
            "pass calibration=…"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a name that is none, or of a machine that this is not
        raise ValueError(
            f"device must be one that PyTorch has here, such as 'cpu' or 'cuda:0', got {str(device)!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return {
        "device": str(device),
        "dtype": dtype,
        "skin": float(skin),
        "compute": tuple(compute),
        "info_keys": keys,
        "on_uncertain": on_uncertain,
        "compile": bool(compile),
    }
