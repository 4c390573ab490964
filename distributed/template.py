"""Files to begin with on a cluster: they are printed, to be changed by hand."""

from __future__ import annotations

from importlib import resources

from lie_sim.errors import ConfigError

TEMPLATES = {
    "ray": ("ray.yaml", "a cluster of Ray on AWS, for ray up"),
    "kuberay": ("kuberay.yaml", "a RayJob on Kubernetes, for kubectl apply"),
    "slurm": ("slurm.sh", "a batch job, for sbatch"),
    "grafana": ("grafana.json", "a dashboard of the metrics of a run, for Grafana"),
}
"""Name to (file, what it is)."""


def template(name: str) -> str:
    """The text of a template.

    Raises:
        ConfigError: there is none of that name.

    Example:
        >>> template("slurm").splitlines()[0]
        '#!/bin/bash'
    """
    if name not in TEMPLATES:
        raise ConfigError(f"no template {name!r}; there are {', '.join(TEMPLATES)}")
    path = resources.files("lie_sim.distributed") / "templates" / TEMPLATES[name][0]
    return path.read_text(encoding="utf-8")
