"""``lie-sim template``: print a file to begin with on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from lie_sim.cli.parsing import parse
from lie_sim.distributed.template import template as text_of


@dataclass(frozen=True)
class TemplateOptions:
    """Print a file to begin with: change what is in capitals.

    Args:
        name: ray (cluster on AWS), kuberay (RayJob on Kubernetes), slurm (batch job) or grafana (dashboard).
    """

    name: Annotated[Literal["ray", "kuberay", "slurm", "grafana"], tyro.conf.Positional]


def template(argv: Sequence[str]) -> None:
    """Print it."""
    print(text_of(parse(TemplateOptions, argv, prog="lie-sim template").name), end="")
