"""Whether the nodes of a cluster can do what is asked of them; Ray itself waits for one that can, without a word.

A cluster that grows may get such a node, so this is a warning and no error.
"""

from __future__ import annotations

import warnings

import ray


def warn_if_no_node_has(resource: str, amount: float) -> None:
    """Say so if no node of the connected cluster can take a task.

    Args:
        resource: ``"CPU"`` or ``"GPU"``.
        amount: how many a task needs, on one node.
    """
    largest = max((node["Resources"].get(resource, 0) for node in ray.nodes() if node["Alive"]), default=0)
    if largest >= amount:
        return
    if resource == "GPU":
        text = (
            "no node of this cluster has a GPU: the run waits until one joins. device='cpu' computes without"
        )
    else:
        text = (
            f"a task of this run needs {amount:g} processors (its threads), the largest node of this cluster has "
            f"{largest:g}: the run waits until a larger one joins, unless it is begun anew with fewer threads"
        )
    warnings.warn(text, stacklevel=2)


def warn_if_few_chunks(chunks: int, workers: int) -> None:
    """Say so if workers must stand idle, as segments of a chunk follow each other.

    Args:
        chunks: of the run.
        workers: that could compute.
    """
    if chunks < workers:
        warnings.warn(
            f"the run has {chunks} chunk{'s' if chunks > 1 else ''}, so that only as many of {workers} workers can "
            "compute: a new run with smaller chunks (chunk=…) would keep them all busy",
            stacklevel=2,
        )


def warn_if_cluster_lacks(resource: str, amount: float) -> None:
    """Say so if the nodes of the connected cluster together have less.

    Args:
        resource: ``"CPU"`` or ``"GPU"``.
        amount: what all replicas of a server need.
    """
    there = ray.cluster_resources().get(resource, 0)
    if there < amount:
        kind = "GPUs" if resource == "GPU" else "processors"
        warnings.warn(
            f"the replicas need {amount:g} {kind}, this cluster has {there:g}: the server waits until it has more. "
            "Fewer num_replicas begin at once",
            stacklevel=2,
        )
