"""Tables of what is missing: real weather, particles out of sight, and fits to tracks with gaps."""

from __future__ import annotations

from result_tables.cells import NONE, Blocks, Result, number, source, table

WEATHER = {
    "mean": "mean of the series",
    "linear": "linear in time",
    "cubic": "cubic in time",
    "places": "the other stations at the same time, at the level of this one",
    "difference": "the same, with the distance to them drawn on",
    "ridge": "regression on the other stations at the same time",
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
FORECASTS = {
    "persistence": "as it was last",
    "seasonal": "as a day before",
    "straight": "straight on",
    "ridge": "ridge regression on all that is known",
    "cdsa": "CDSA, its end hidden (ours)",
    "hamiltonian": "Hamiltonian, fitted to other tracks (ours)",
}
PERIODS = {
    ("airports", "day"): "a day, from hourly temperatures of three airports in a year (24 h)",
    ("airports", "year"): "a year, from the same (8,766 h)",
    ("cities", "year"): "a year, from daily temperatures of five cities in two years (365.24 d)",
    ("riders", "week"): "a week, from daily riders at twenty stations in sixteen years (7 d)",
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
        [label, *(_three(figures[f"mae_{kind}_{name}"]) for kind in ("random", "outage"))]
        for name, label in WEATHER.items()
        if f"mae_random_{name}" in figures
    ]
    covered = [
        "share of true values in the band in which half are expected (CDSA)",
        number(figures["coverage_random"]),
        number(figures["coverage_outage"]),
    ]
    return table(["", "20 % missing", "a station silent"], [*rows, covered]) + source(result)


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


def time_linformer(result: Result) -> str:
    """Landmarks against attention between all times."""
    figures = result["figures"]
    rows = [
        ["error of what is hidden, all times", _three(figures["rmse_full"])],
        ["the same, landmarks", _three(figures["rmse_landmarks"])],
        ["ratio", _three(figures["rmse_ratio"])],
        ["a training step is faster by", number(figures["speedup"])],
        ["filling in is faster by", number(figures["speedup_use"])],
    ]
    return table(["", ""], rows) + source(result)


def forecast(result: Result) -> str:
    """Mean absolute errors of weather and particles."""
    figures = result["figures"]
    names = (
        "mae_weather_{}",
        "mae_springs_{}",
        "mae_springs_late_{}",
    )
    rows = []
    for name, label in FORECASTS.items():
        found = [figures.get(column.format(name)) for column in names]
        if any(value is not None for value in found):
            rows.append([label, *(NONE if value is None else _three(value) for value in found)])
    header = ["", "weather, 24 hours", "particles, two periods", "the last third of them"]
    over = number(figures["springs_late_hamiltonian_over_best"])
    said = f"\nAt the end the Hamiltonian has {over} times the error of the best other.\n"
    return table(header, rows) + said + source(result)


def periods(result: Result) -> str:
    """Those that were found next to those that are known."""
    figures = result["figures"]
    rows = []
    for (name, period), label in PERIODS.items():
        if f"{name}_{period}" in figures:
            found, error = figures[f"{name}_{period}"], figures[f"{name}_{period}_error"]
            cycles = figures[f"{name}_cycles_{period}"]
            rows.append([label, f"{found:.6g}", f"{100 * error:.2g} %", number(cycles)])
    return table(["", "found", "off by", "periods in the data"], rows) + source(result)


def _three(value: float) -> str:
    return f"{value:.3f}"


BLOCKS: Blocks = {
    "imputation": ("imputation", imputation),
    "imputation_ridership": ("imputation_ridership", imputation),
    "time_linformer": ("time_linformer", time_linformer),
    "forecast": ("forecast", forecast),
    "periods": ("periods", periods),
    "occlusion": ("occlusion", occlusion),
    "gappy_fit": ("gappy_fit", gappy_fit),
}
