"""Tables of what is missing: real weather, particles out of sight, and fits to tracks with gaps."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, number, source, table

WEATHER = {
    "mean": "mean of the series",
    "linear": "linear in time",
    "cubic": "cubic in time",
    "places": "the other stations at the same hour, at the level of this one",
    "difference": "the same, with the distance to them drawn on",
    "ridge": "regression on the other stations at the same hour",
    "brits": "BRITS (PyPOTS)",
    "saits": "SAITS (PyPOTS)",
    "saits_small": "SAITS, smaller",
    "cdsa": "CDSA (ours)",
}
PARTICLES = {
    "linear": "linear",
    "spline": "cubic spline",
    "hermite": "Hermite, with velocities",
    "brits": "BRITS (PyPOTS)",
    "saits": "SAITS (PyPOTS)",
    "saits_small": "SAITS, smaller",
    "cdsa": "CDSA that turns with the data (ours)",
}
FITS = {
    "complete": "everything",
    "masked": "what is there, gaps do not count",
    "spline": "gaps filled by cubic splines",
    "cdsa": "gaps filled by CDSA, counting by its error",
    "starts": "the same, for the starts of segments only",
}


def imputation(result: Result) -> str:
    """Mean absolute errors of single entries and of outages."""
    figures = result["figures"]
    rows = [
        [label, number(figures[f"mae_random_{name}"]), number(figures[f"mae_outage_{name}"])]
        for name, label in WEATHER.items()
        if f"mae_random_{name}" in figures
    ]
    covered = [
        "share of true values in the band in which half are expected (CDSA)",
        number(figures["coverage_random"]),
        number(figures["coverage_outage"]),
    ]
    return table(["", "20 % missing", "24 hours of a station"], [*rows, covered]) + source(result)


def occlusion(result: Result) -> str:
    """Errors of hidden positions."""
    figures = result["figures"]
    rows = [
        [label, number(figures[f"rmse_long_{name}"]), number(figures[f"rmse_short_{name}"])]
        for name, label in PARTICLES.items()
        if f"rmse_long_{name}" in figures
    ]
    over = [number(figures[f"rmse_over_best_{kind}"]) for kind in ("long", "short")]
    header = ["", "0.5 to 1.5 periods", "0.1 to 0.5 periods"]
    return table(header, [*rows, ["ours over the best of the others", *over]]) + source(result)


def gappy_fit(result: Result) -> str:
    """What a fit is given, and how good it is."""
    figures = result["figures"]
    rows = [
        [label, number(figures[f"imputed_{name}"]), number(figures[f"rollout_{name}"])]
        for name, label in FITS.items()
    ]
    shares = (f"{100 * figures[name]:.0f} %" for name in ("gap_closed", "gap_closed_by_starts"))
    closed = "\nOf the distance between the second and the first the last two close {} and {}.\n".format(
        *shares
    )
    header = ["what the fit is given", "error in the gaps", "error of rollouts"]
    return table(header, rows) + closed + source(result)


BLOCKS: Blocks = {
    "imputation": ("imputation", imputation),
    "occlusion": ("occlusion", occlusion),
    "gappy_fit": ("gappy_fit", gappy_fit),
}
