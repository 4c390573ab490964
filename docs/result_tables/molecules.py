"""Potentials of molecules beside peers: accuracy at equal CPU time, speed, the contract of ASE."""

from __future__ import annotations

import statistics

from result_tables.cells import NONE, Blocks, Result, number, source, table

CONTESTANTS = {
    "ours": "**ours**",
    "ours_compiled": "**ours**, compiled",
    "painn": "PaiNN, 128 features (SchNetPack)",
    "painn64": "PaiNN, 64 features (SchNetPack)",
    "mace": "MACE 64x0e",
    "mace128": "MACE 128x0e + 128x1o",
    "nequip": "NequIP, ℓ ≤ 1, 32 features",
    "ani": "ANI-2x architecture, one network (TorchANI)",
    "sevennet0": "SevenNet-0, as shipped",
    "gfn2": "GFN2-xTB (tblite)",
    "painn64_muon": "PaiNN, 64 features, with our optimiser",
    "mace_muon": "MACE 64x0e, with our optimiser",
}
MOLECULES = ("ethanol", "malonaldehyde", "aspirin")
ACCURACY = ("ours", "painn64", "mace", "painn64_muon", "mace_muon")
BUDGETS = (300.0, 1800.0)
ALL_SEEDS = 3
MEASUREMENTS = {
    "ethanol": "ethanol, ms",
    "aspirin": "aspirin, ms",
    "water_192": "192 atoms of water, ms",
    "md": "MD of ethanol, steps/s",
    "many_32": "32 ethanol, structures/s",
    "step_16": "training step, 16, ms",
    "step_32": "training step, 32, ms",
}
PER_SECOND = ("md", "many_32")
ERRORS = {
    "forces": "forces of",
    "stress": "stress",
    "turned": "energy turned",
    "moved 1,000 Å": "energy moved",
    "50 Å apart": "size consistency",
    "supercell": "supercell",
    "jump at the cutoff": "jump at the cutoff",
}
WORDS = {
    "test_energy_and_forces_turn_with_the_system": "turning",
    "test_forces_are_the_slope_of_the_energy": "forces",
    "test_stress_is_the_slope_of_the_energy": "stress",
    "test_energies_of_distant_systems_add_up": "distant systems",
    "test_energy_does_not_depend_on_place_or_order": "place and order",
    "test_a_supercell_is_so_many_cells_and_wrapping_changes_nothing": "supercell",
    "test_energy_is_continuous_where_a_neighbour_leaves": "cutoff",
    "test_a_lone_atom_has_an_energy_and_no_force": "lone atom",
    "test_forces_then_energy_is_one_calculation": "one calculation and `free_energy`",
    "test_copies_compute_the_same": "copies",
    "test_it_says_what_it_is": "`todict`",
    "test_what_is_impossible_is_refused": "impossible input",
    "test_results_belong_to_whoever_asked": "own results",
}


def mean_cell(runs: list[Result], key: str) -> str:
    """Mean over the seeds, and how many there are where some are missing."""
    if not runs:
        return NONE
    missing = "" if len(runs) >= ALL_SEEDS else f" ({len(runs)} of {ALL_SEEDS} seeds)"
    return number(statistics.mean(run[key] for run in runs)) + missing


def molecules_accuracy(result: Result) -> str:
    """Errors of forces and energies by contestant, a table for each budget; who did not run has no row."""
    runs = [run for run in result["details"]["parts"].values() if run["chosen"]]
    out = ""
    for budget in BUDGETS:
        rows = []
        for contestant in ACCURACY:
            mine = [run for run in runs if (run["contestant"], run["budget"]) == (contestant, budget)]
            if not mine:
                continue
            cells = [
                mean_cell([run for run in mine if run["molecule"] == molecule], key)
                for key in ("force_mae_mev", "energy_mae_mev")
                for molecule in MOLECULES
            ]
            steps = [run["steps"] for run in mine if run["molecule"] == "ethanol"]
            rows.append([CONTESTANTS[contestant], *cells, number(statistics.mean(steps)) if steps else NONE])
        if not rows:
            continue
        header = [
            "",
            *(f"{molecule}, meV/Å" for molecule in MOLECULES),
            *(f"{molecule}, meV" for molecule in MOLECULES),
            "steps, ethanol",
        ]
        out += f"Mean absolute errors after {budget:,.0f} CPU seconds of training, forces and energies:\n\n"
        out += table(header, rows) + "\n"
    rates = {
        contestant: sorted({run["rate"] for run in runs if run["contestant"] == contestant and run["rate"]})
        for contestant in ACCURACY
    }
    chosen = "; ".join(
        f"{CONTESTANTS[contestant]} {' or '.join(f'{rate:g}' for rate in found)}"
        for contestant, found in rates.items()
        if found
    )
    return out + (f"Learning rates chosen: {chosen}.\n" if chosen else "") + source(result)


def speed_cell(value: float | None, what: str) -> str:
    """Milliseconds, or how many in a second."""
    return number(1000 / value if value and what in PER_SECOND else value)


def molecules_speed(result: Result) -> str:
    """Times by contestant, the ratios that were aimed at, and the growth with the number of atoms."""
    figures, details = result["figures"], result["details"]
    rows = [
        [name, number(details["parameters"][key] or None)]
        + [speed_cell(details["ms"][key].get(what), what) for what in MEASUREMENTS]
        for key, name in CONTESTANTS.items()
        if key in details["ms"]
    ]
    goals = {
        "ethanol_over_painn": ("energy and forces of ethanol, over PaiNN 128", "≤ 0.6"),
        "ethanol_compiled_over_painn": ("the same, ours compiled", "≤ 0.6"),
        "ethanol_over_painn64": ("eager, over PaiNN 64", ""),
        "water192_over_mace": ("192 atoms of water, over MACE 64x0e", "≤ 0.6"),
        "water192_compiled_over_mace": ("the same, ours compiled", "≤ 0.6"),
        "batch32_over_painn": ("structures a second in batches of 32, over PaiNN 128", "≥ 2.5"),
        "batch32_over_painn64": ("the same over PaiNN 64", ""),
        "train_step_over_painn": (
            "training step, over PaiNN 128 (the larger of batches of 16 and 32)",
            "≤ 0.5",
        ),
        "compiled_speedup": ("ethanol, eager over compiled", "≥ 2"),
        "compiled_speedup_water_192": ("192 atoms of water, eager over compiled", ""),
        "exponent_time": ("time grows with the number of atoms to the power", "≤ 1.1"),
        "exponent_memory": ("memory likewise", "≤ 1.1"),
    }
    ratios = [
        [label, number(figures[key]), aim or NONE] for key, (label, aim) in goals.items() if key in figures
    ]
    growth = [[f"{row['atoms']:,}", number(row["ms"]), number(row["extra_mib"])] for row in details["growth"]]
    packages = ", ".join(f"{name} {version}" for name, version in details["peers"].items())
    return (
        table(["", "parameters", *MEASUREMENTS.values()], rows)
        + "\n"
        + table(["ours", "value", "aim"], ratios)
        + "\nGrowth of ours on periodic water:\n\n"
        + table(["atoms", "ms", "MiB beyond the idle process"], growth)
        + f"\nMedians of {details['rounds']} rounds. Peers: {packages}.\n"
        + source(result)
    )


def conformance(result: Result) -> str:
    """What each calculator passes of the test class, its errors, and what it fails."""
    rows = []
    for row in result["details"]["rows"]:
        errors = [
            max((value for what, value in row["errors"].items() if what.startswith(begin)), default=None)
            for begin in ERRORS.values()
        ]
        failed = ", ".join(WORDS.get(test, test) for test in row["failed"]) or "nothing"
        passed = f"{row['tests'] - len(row['failed'])} of {row['tests']}"
        rows.append([CONTESTANTS[row["calculator"]], passed, *map(number, errors), failed])
    return table(["", "passed", *ERRORS, "fails"], rows) + source(result)


BLOCKS: Blocks = {
    "molecules_accuracy": ("molecules_accuracy", molecules_accuracy),
    "molecules_speed": ("molecules_speed", molecules_speed),
    "conformance": ("conformance", conformance),
}
