"""``lie-sim demo``: the demonstration with its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lie_sim.cli.parsing import Inlined, parse
from lie_sim.cli.runs import check_same_options, remove_run, show
from lie_sim.cli.train import resumable
from lie_sim.experiments.demo import COMPARISON, DemoConfig, run_demo


@dataclass(frozen=True)
class DemoOptions:
    """Train our model and three others on the same springs for the same time, and compare them.

    Args:
        run_dir: where the run is kept.
        settings: the demonstration.
        progress: show progress bars.
        restart: remove the demonstration that is in the directory, and begin again.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")] = Path("runs/demo")
    settings: Inlined[DemoConfig] = field(default_factory=DemoConfig)
    progress: bool = True
    restart: bool = False


def demo(argv: Sequence[str]) -> None:
    """Run the demonstration and print its table."""
    options = parse(DemoOptions, argv, prog="lie-sim demo", default=DemoOptions())
    experiment = options.settings.experiment()
    if options.restart:
        remove_run(options.run_dir, experiment, also=[COMPARISON])
    check_same_options(options.run_dir, experiment)
    with resumable(options.run_dir, ["demo", *argv]):
        rows = run_demo(options.run_dir, options.settings, progress=options.progress)
    columns = ["parameters", "cpu_seconds", "mse5", f"mse{options.settings.long_steps}", "diverged_share"]
    header = ("model", "".join(f"{name:>16}" for name in columns))
    show(
        [
            header,
            *(
                (name, "".join(_cell(column, row[column]) for column in columns))
                for name, row in rows.items()
            ),
        ]
    )
    show([("report", options.run_dir / "report.html")])


def _cell(column: str, value: float) -> str:
    """A number of the table; parameters are counted, not measured."""
    return f"{value:16,.0f}" if column == "parameters" else f"{value:16.4g}"
