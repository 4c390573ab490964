"""How should the gap of a molecule be read off its atoms: attention, sum, mean, or the half that SAGPool keeps?

The same network and recipe as ``lie-sim train qm9 --targets gap`` with 5,000 training molecules, the same CPU time on
one core for each readout; the mean absolute error of the gap of test molecules in meV.

    python benchmarks/qm9_readouts.py --keep DIR                  # parts that are in DIR are not done again
    python benchmarks/qm9_readouts.py --keep DIR --only soft_sag  # one part
    python benchmarks/qm9_readouts.py --keep DIR --record         # writes what is there
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import torch
from parts import measured, parser_of_parts
from record import record

from lie_sim.experiments import Qm9Config, Qm9Experiment
from lie_sim.models import AtomicPotential
from lie_sim.models.atomic_config import READOUTS
from lie_sim.training import train


def with_readout(potential: AtomicPotential, readout: str) -> AtomicPotential:
    """An untrained potential of the same kind that reads its intensive properties in another way."""
    config = potential.config
    heads = {
        name: replace(head, readout=readout) if head.kind == "intensive" else head
        for name, head in config.heads.items()
    }
    return AtomicPotential(replace(config, heads=heads))


def run(readout: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train and test one readout."""
    config = Qm9Config(
        targets=("gap",), num_train=options.size, num_validation=1000, num_test=options.num_test
    )
    training = replace(config.training, max_cpu_seconds=options.budget, validate_every=0)
    made = Qm9Experiment(replace(config, training=training, cache=options.cache))
    untrained = made.build()
    torch.manual_seed(training.seed)
    found = train(with_readout(untrained, readout), made.task(), made.training, progress=False)
    results = made.evaluate(found.module).results
    return results | {"steps": found.steps, "cpu_s": found.cpu_seconds, "size": options.size}


def main(arguments: list[str] | None = None) -> None:
    """Do what is missing, each part in a process of its own; record if asked to."""
    parser = parser_of_parts(__doc__)
    parser.add_argument("--budget", type=float, default=300.0, help="CPU seconds of a run")
    parser.add_argument("--size", type=int, default=5_000, help="training molecules")
    parser.add_argument("--num-test", type=int, default=13_083)
    parser.add_argument("--cache", default="", help="folder of the parsed data")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asked, places = ["budget", "size", "num_test"], ["cache"]
    kept = measured(__file__, READOUTS, run, options, asked=asked, places=places)
    if kept is None:
        return
    found = {f"mae_gap_{readout}": result["mae_gap"] for readout, result in kept.items()}
    print(json.dumps(found, indent=1))
    if options.record:
        print(record("qm9_readouts", found, threads=1, details=kept, parts=kept.values()))


if __name__ == "__main__":
    main()
