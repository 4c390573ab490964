"""Tables of time: what a driven oscillator's model must know of it."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, number, source, table

MODELS = {
    "none": "nothing",
    "raw_t": "t as an input of the network",
    "fixed_grid": "eight frequencies on a grid, kept",
    "grid": "the same, learned",
    "mercer": "two periods with four harmonics, learned",
    "spectrum": "two frequencies from the spectrum, learned",
}


def driven(result: Result) -> str:
    """Errors of each model in the window of the data and beyond."""
    figures = result["figures"]
    rows = [
        [
            label,
            *(
                number(figures[f"{what}_{where}{name}"])
                for what in ("force", "rollout")
                for where in ("", "later_")
            ),
        ]
        for name, label in MODELS.items()
    ]
    header = [
        "what it knows of time",
        "forces, window",
        "forces, beyond",
        "rollouts, window",
        "rollouts, beyond",
    ]
    facts = {
        "rollouts beyond the window, spectrum over t": _share(figures["extrapolated_over_raw_t"]),
        "rollouts beyond the window, spectrum over nothing": _share(figures["extrapolated_over_none"]),
        "largest error of a frequency": _share(figures["frequency_error"]),
        "irregular over regular times": number(figures["irregular_over_regular"]),
    }
    return (
        table(header, rows)
        + "\n"
        + table(["quantity", "value"], [list(x) for x in facts.items()])
        + source(result)
    )


def _share(value: float) -> str:
    """Small shares keep two digits."""
    return f"{100 * value:.2g} %"


BLOCKS: Blocks = {"driven": ("driven", driven)}
