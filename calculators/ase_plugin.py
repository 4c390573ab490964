"""What ASE finds of us by itself, through two entry points of ``pyproject.toml``; neither waits for torch.

    ase.ioformats  md17       ase.io.read("rmd17_ethanol.npz", ":", energy_unit="kcal/mol")
    ase.plugins    lie_sim    ase._4.plugins.plugins.calculators
    (run time)     lie_sim    ase run lie_sim molecule.xyz -p model=my-model

``ase run`` (3.29) sees only calculators that were registered in its process, and the modules of ``ase.ioformats`` are
the only ones of other packages that it loads: hence this one registers the calculator when it is imported. Once
``ase run`` looks into ``ase.plugins``, the last two lines can go.
"""

from __future__ import annotations

from typing import Any

from ase.calculators.calculator import external_calculators, register_calculator_class
from ase.utils.plugins import ExternalIOFormat

NAME = "lie_sim"
MD17 = ExternalIOFormat(
    desc="MD17 and rMD17 trajectories of molecules (npz)",
    code="+S",
    module="lie_sim.calculators.md17",
    glob=["*.npz"],
)
CITATION = "Hutchinson, Le Lan, Zaidi, Dupont, Teh, Kim, LieTransformer, ICML 2021, arXiv:2012.10885"


class DeferredCalculator:
    """Stands for :class:`~lie_sim.calculators.LieTransformerCalculator` until one is made, which imports torch."""

    nolabel = True  # for "ase run": there are no files of our own to name

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        """Make the calculator."""
        from lie_sim.calculators.calculator import LieTransformerCalculator

        return LieTransformerCalculator(*arguments, **keywords)


def __getattr__(name: str) -> Any:
    """``__ase_plugins__``, made when ASE asks for it: that part of ASE is experimental, and not in every version."""
    if name != "__ase_plugins__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ase._4.plugins.plugin import CalculatorPlugin

    implementation = "lie_sim.calculators.calculator.LieTransformerCalculator"
    return {CalculatorPlugin(NAME, citation=CITATION, implementation=implementation)}


if NAME not in external_calculators:
    register_calculator_class(NAME, DeferredCalculator)
