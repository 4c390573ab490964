"""``lie-sim plan``: what a simulation of thousands of GPUs will need, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import show
from lie_sim.distributed.plan import Costs, Plan, Workload
from lie_sim.distributed.plan import plan as needs
from lie_sim.distributed.rehearsal import rehearse

_CAUSES = {
    "workers": "the GPUs, all of which are busy",
    "chunks": "fewer chunks than GPUs",
    "driver": "the driver",
    "disk": "the disk that all nodes share",
}


@dataclass(frozen=True)
class PlanOptions:
    """What a simulation will need: segments, files, bytes, hours, and what is in the way first.

    Args:
        gpus: GPUs, each of which computes one segment at a time.
        trajectories: how many; 1e6 is a number.
        steps: of each.
        dt: length of a step, in any unit; only told.
        particles: of each system, in three dimensions.
        save_every: keep every so many-th state.
        chunk: systems that are advanced together.
        segment: seconds that a segment should take.
        ms_per_step: milliseconds of a step of a chunk on one GPU; measure it.
        disk: megabytes a second that the shared disk takes in, a number such as 500.
        rehearse: play the run with the real driver and a virtual clock, without the disk; a minute a million segments.
        progress: show a progress bar, with --rehearse.
    """

    gpus: float
    trajectories: Annotated[float, tyro.conf.arg(metavar="N")]
    steps: float = 300_000
    dt: float = 0.01
    particles: float = 100
    save_every: int = 1000
    chunk: int = 1024
    segment: float = 30.0
    ms_per_step: float = 10.0
    disk: Annotated[float, tyro.conf.arg(metavar="MB/S")] = 1000.0
    rehearse: bool = False
    progress: bool = True


def plan(argv: Sequence[str]) -> None:
    """Print the plan."""
    options = parse(PlanOptions, argv, prog="lie-sim plan")
    work = Workload(
        trajectories=round(options.trajectories),
        steps=round(options.steps),
        workers=round(options.gpus),
        particles=round(options.particles),
        save_every=options.save_every,
        chunk=options.chunk,
        segment_seconds=options.segment,
        step_seconds=options.ms_per_step / 1e3,
    )
    costs = Costs(disk_bytes_per_second=1e6 * options.disk)
    found = needs(work, costs)
    show(_described(found, work, options.dt).items())
    for advice in found.advice:
        print(f"- {advice}")
    if options.rehearse:
        played = rehearse(work, costs, progress=options.progress)
        show(
            {
                "rehearsed": _duration(played.seconds),
                "of the ideal": f"{played.efficiency:.1%}",
                "driver works": f"{played.driver_load:.1%} of the time",
            }.items()
        )


def _described(found: Plan, work: Workload, dt: float) -> dict[str, str]:
    return {
        "time of each trajectory": f"{work.steps:,} steps of {dt:g} = {work.steps * dt:,.6g}",
        "chunks": f"{found.chunks:,} of up to {work.chunk:,} systems",
        "segments": f"{found.segments:,} of {found.segment_steps:,} steps, {found.segment_seconds:.3g} s each",
        "commits": f"{found.commits_per_second:.3g} a second",
        "files": f"{found.files:,} of {_size(found.segment_bytes)}; {2 * found.chunks:,} after lie-sim compact",
        "store": _size(found.num_bytes),
        "driver works": f"{found.driver_load:.1%} of the time",
        "GPUs compute": f"{found.workers_busy:.1%} of the time",
        "wall time": f"{_duration(found.seconds)}, at the least",
        "first bottleneck": _CAUSES[found.bottleneck],
    }


def _size(count: float) -> str:
    """Bytes, for people.

    Example:
        >>> _size(4.8e12), _size(900)
        ('4.8 TB', '900 B')
    """
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = next((k for k in range(len(units)) if count < 1000 ** (k + 1)), len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"


def _duration(seconds: float) -> str:
    """Seconds, for people.

    Example:
        >>> _duration(90), _duration(7200), _duration(5)
        ('1.5 min', '2 h', '5 s')
    """
    for scale, unit, least in ((86400, "d", 2 * 86400), (3600, "h", 3600), (60, "min", 60)):
        if seconds >= least:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"
