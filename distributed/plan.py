"""What a run will need, before it is begun: segments, files, bytes, hours, and what is in the way first.

    C = ⌈B / b⌉ chunks,   K = ⌈steps / segment steps⌉ segments each, of s seconds,   W workers

    time ≥ C·K·s / W      all workers are busy
         ≥ K·s            a chunk is a chain: more workers than chunks do not help
         ≥ C·K·d          the driver hands out one segment after the other, d seconds each
         ≥ bytes / rate   the disk that all nodes share

The largest of the four is the time, and its cause the first bottleneck. :mod:`lie_sim.distributed.rehearsal` plays the
same run with the real driver and a clock that is not real.

Shape letters: B trajectories, b of a chunk, C chunks, K segments of a chunk, W workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from lie_sim.errors import ConfigError

MAX_FILES = 1_000_000
"""Files that a parallel file system still likes; compact puts those of a chunk together."""
_STATE, _ENERGY = 2, 1
"""Positions and momenta, of every coordinate; the energy, of every frame."""


@dataclass(frozen=True)
class Costs:
    """What was measured, and what is assumed.

    Args:
        driver_seconds: of the driver for a segment on Ray: handing out, waiting, noting (measured: 1,250 segments/s).
        gap_seconds: that a worker waits between two segments, of which the second waits with it (measured).
        latency_seconds: from the driver to a worker that waits (measured: the way of a task there and back).
        disk_bytes_per_second: that the disk which all nodes share takes in (assumed).

    Raises:
        ConfigError: the disk takes in nothing.
    """

    driver_seconds: float = 0.8e-3
    gap_seconds: float = 1.6e-3
    latency_seconds: float = 1.7e-3
    disk_bytes_per_second: float = 1e9

    def __post_init__(self) -> None:
        if not self.disk_bytes_per_second > 0:
            raise ConfigError(f"the disk must take in something, got {self.disk_bytes_per_second:g} bytes/s")


MEASURED = Costs()
"""On two cores of a small machine, which is also where Ray and the workers ran: an upper bound."""


@dataclass(frozen=True)
class Workload:
    """What is to be computed, where, and how it is cut.

    Args:
        trajectories: B.
        steps: of each.
        workers: segments at a time: GPUs, say.
        particles: of each system.
        dimension: of space.
        save_every: steps from one frame to the next.
        chunk: b, systems that are advanced together.
        segment_seconds: about how long a segment should take.
        step_seconds: of a step of a chunk on one worker; measure it.
        number_bytes: of a number, 8 for float64.

    Raises:
        ConfigError: a number is not positive.
    """

    trajectories: int
    steps: int
    workers: int
    particles: int = 100
    dimension: int = 3
    save_every: int = 1000
    chunk: int = 1024
    segment_seconds: float = 30.0
    step_seconds: float = 10e-3
    number_bytes: int = 8

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not getattr(self, entry.name) > 0:
                raise ConfigError(f"{entry.name} must be positive, got {getattr(self, entry.name)}")

    @property
    def chunks(self) -> int:
        """C."""
        return -(-self.trajectories // self.chunk)

    @property
    def segment_steps(self) -> int:
        """Steps of a segment: a multiple of ``save_every``, not more than there are."""
        steps = min(self.segment_seconds / self.step_seconds, self.steps)
        frames = max(1, round(steps / self.save_every))
        return min(frames * self.save_every, self.steps)

    @property
    def segments(self) -> int:
        """K."""
        return -(-self.steps // self.segment_steps)

    @property
    def segment_time(self) -> float:
        """Seconds that a segment takes."""
        return self.segment_steps * self.step_seconds

    @property
    def num_bytes(self) -> int:
        """Of all frames and of the states at the end of segments."""
        numbers = _STATE * self.particles * self.dimension + _ENERGY
        frames = self.steps // self.save_every + 1
        return self.trajectories * (frames + self.segments) * numbers * self.number_bytes


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Args:
        chunks: C.
        segments: C·K.
        segment_steps: steps of a segment.
        segment_seconds: that one takes.
        segment_bytes: of its file.
        files: in the store; as many as chunks after compact.
        num_bytes: of the store.
        seconds: of the whole run, at the least.
        commits_per_second: segments that are written, in the mean.
        driver_load: share of its time that the driver works.
        workers_busy: share of their time that the workers compute.
        bottleneck: what is in the way first: "workers", "chunks", "driver" or "disk".
        advice: what to change, in words.
    """

    chunks: int
    segments: int
    segment_steps: int
    segment_seconds: float
    segment_bytes: int
    files: int
    num_bytes: int
    seconds: float
    commits_per_second: float
    driver_load: float
    workers_busy: float
    bottleneck: str
    advice: list[str] = field(default_factory=list)


def plan(work: Workload, costs: Costs = MEASURED) -> Plan:
    """What a run will need.

    Args:
        work: what is to be computed.
        costs: what was measured.

    Example:
        >>> million = Workload(trajectories=10**6, steps=300_000, workers=1000)
        >>> found = plan(million)
        >>> found.chunks, found.segments, found.bottleneck, round(found.commits_per_second)
        (977, 97700, 'chunks', 33)
    """
    total = work.chunks * work.segments
    bounds = {
        "workers": total * work.segment_time / work.workers,
        "chunks": work.segments * work.segment_time,
        "driver": total * costs.driver_seconds,
        "disk": work.num_bytes / costs.disk_bytes_per_second,
    }
    bottleneck = max(bounds, key=lambda name: bounds[name])  # the first, of equals
    seconds = bounds[bottleneck]
    return Plan(
        chunks=work.chunks,
        segments=total,
        segment_steps=work.segment_steps,
        segment_seconds=work.segment_time,
        segment_bytes=work.num_bytes // total,
        files=total + work.chunks,
        num_bytes=work.num_bytes,
        seconds=seconds,
        commits_per_second=total / seconds,
        driver_load=bounds["driver"] / seconds,
        workers_busy=bounds["workers"] / seconds,
        bottleneck=bottleneck,
        advice=list(_advice(work, costs, bottleneck)),
    )


def _advice(work: Workload, costs: Costs, bottleneck: str) -> list[str]:
    said = []
    if work.chunks < work.workers:
        said.append(_smaller_chunks(work))
    if bottleneck == "driver":
        enough = work.workers * costs.driver_seconds
        said.append(f"{work.workers:,} workers need segments of at least {enough:.2g} s, or a second driver")
    if bottleneck == "disk":
        said.append("the disk takes longer than the computing: save fewer frames (save_every), or in float32")
    if work.chunks * work.segments > MAX_FILES:
        said.append(f"more than {MAX_FILES:,} files: ask for longer segments, or compact while it runs")
    share = costs.gap_seconds / work.segment_time
    if share > 0.01:
        said.append(f"workers wait {share:.1%} of the time between segments: ask for longer ones")
    return said


def _smaller_chunks(work: Workload) -> str:
    """A chunk is computed by one worker at a time."""
    told = f"{work.chunks:,} chunks keep {work.chunks:,} of {work.workers:,} workers busy"
    if work.trajectories < work.workers:
        return f"{told}, and there are no more trajectories: use {work.trajectories:,} workers"
    return f"{told}: ask for chunks of at most {work.trajectories // work.workers:,} systems"
