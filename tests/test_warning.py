"""Warnings point at the line of the user, through our own code and that of ASE."""

from __future__ import annotations

import warnings

import pytest
from ase.build import molecule
from ase.optimize import BFGS

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.models import AtomicPotential

NETWORK = {"width": 16, "num_heads": 8, "num_moments": 4, "kernel_hidden": 16}


@pytest.fixture(scope="module")
def model() -> AtomicPotential:
    return AtomicPotential.default(elements=(1, 8), network=NETWORK)


def test_a_warning_points_at_the_line_that_asked(model: AtomicPotential) -> None:
    water = molecule("H2O")
    water.info["charge"] = 1
    water.calc = LieTransformerCalculator(model)
    with pytest.warns(UserWarning, match=r"the charge of these atoms is \+1") as found:
        BFGS(water, logfile=None).run(steps=1)
    assert {warning.filename for warning in found} == {__file__}


@pytest.mark.parametrize(("name", "value", "told"), [("spin", 2, r"\+2"), ("charge", "plus", "'plus'")])
def test_totals_that_are_not_read_are_said(
    model: AtomicPotential, name: str, value: object, told: str
) -> None:
    water, calculator = molecule("H2O"), LieTransformerCalculator(model)
    expected = calculator.evaluate(water)["energy"]
    water.info[name] = value
    with pytest.warns(
        UserWarning, match=rf"the {name} of these atoms is {told}, but this model was trained without"
    ):
        assert calculator.evaluate(water)["energy"] == expected
    water.info[name] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.evaluate(water)
