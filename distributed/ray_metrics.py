"""What happens during a run, as metrics of Ray: for Prometheus, which every node of the cluster tells.

    Counter   lie_sim_segments       →  ray_lie_sim_segments_total       Ray puts ray_ before a name, and its exporter
    Gauge     lie_sim_drift          →  ray_lie_sim_drift                _total behind that of a counter
    Histogram lie_sim_segment_seconds → ray_lie_sim_segment_seconds_bucket, …_sum, …_count

A gauge is exported only if it was set since the last export, and the sum of a histogram is made from the middles of its
bins (Ray 2.60): hence ``last_over_time`` in the dashboard, and a counter of busy seconds beside the histogram.

They are made in the process of the driver, from what it tells the journal; ``lie-sim template grafana`` prints a
dashboard.
"""

from __future__ import annotations

import math
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from lie_sim.distributed.journal import steps_of
from lie_sim.distributed.manifest import Manifest

SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1000.0)
"""Bounds of the histogram of segments."""
WENT_WRONG = ("duplicate", "lost", "retry", "failed", "quarantine")
"""Events that are counted as failures."""
_DONE = ("new", "duplicate", "present")


class RayMetrics:
    """Counts what it is told.

    Args:
        run: name of the run, a tag of every metric.
        manifest: what the run is.
    """

    def __init__(self, run: str, manifest: Manifest) -> None:
        self._manifest, self._steps = manifest, steps_of(manifest)
        self._missing, self._drift = 0, 0.0
        self._ended: dict[int, int] = {}
        by_node = {"tag_keys": ("run", "node")}
        self.segments = Counter("lie_sim_segments", "segments that were written", **by_node)
        self.steps = Counter("lie_sim_system_steps", "steps of single systems that were written", **by_node)
        self.busy = Counter("lie_sim_busy_seconds", "time of workers in segments", **by_node)
        self.idle = Counter("lie_sim_idle_seconds", "time of workers between two segments", **by_node)
        self.seconds = Histogram("lie_sim_segment_seconds", "time of a segment", list(SECONDS), **by_node)
        self.failures = Counter("lie_sim_failures", "what went wrong", tag_keys=("run", "kind"))
        self.missing = Gauge("lie_sim_missing_segments", "segments that are not there", tag_keys=("run",))
        self.drift = Gauge("lie_sim_drift", "largest drift / mean kinetic energy", tag_keys=("run",))
        self.ended = Gauge("lie_sim_ended_trajectories", "that diverged or drifted", tag_keys=("run",))
        for metric in self.all():
            metric.set_default_tags({"run": run})

    def all(self) -> list[Counter | Gauge | Histogram]:
        """Every metric."""
        return [x for x in vars(self).values() if isinstance(x, Counter | Gauge | Histogram)]

    def tell(self, event: str, **facts: Any) -> None:
        """Something happened."""
        if event == "begin":
            self._missing = facts["segments"]
        if event == "new":
            self._count(facts)
        if event in WENT_WRONG:
            self.failures.inc(tags={"kind": event})
        if event in _DONE:
            self._missing -= 1
            self._ended[facts["chunk"]] = facts["ended"]
            self._drift = max(self._drift, facts["drift"]) if not math.isnan(facts["drift"]) else self._drift
        if event == "lost" and facts["number"] > 0:
            self._missing += 1
        self.missing.set(self._missing)
        self.drift.set(self._drift)
        self.ended.set(sum(self._ended.values()))

    def _count(self, facts: dict[str, Any]) -> None:
        tags = {"node": facts["worker"].rsplit(":", 1)[0]}
        self.segments.inc(tags=tags)
        self.steps.inc(
            self._manifest.chunks[facts["chunk"]].size * int(self._steps[facts["number"]]), tags=tags
        )
        self.seconds.observe(max(facts["seconds"], 1e-9), tags=tags)
        self.busy.inc(max(facts["seconds"], 1e-9), tags=tags)
        if facts["idle"] > 0:
            self.idle.inc(facts["idle"], tags=tags)
