"""Labelled graphs in the text format of the TU collection: NCI1, PROTEINS, MUTAG and others.

    NAME_A.txt                 an edge a line, "i, j", both directions, nodes counted from 1 over all graphs
    NAME_graph_indicator.txt   number of the graph of each node, ascending from 1
    NAME_graph_labels.txt      class of each graph
    NAME_node_labels.txt       kind of each node, optional

The files lie in a folder NAME below that which the argument or the environment variable ``LIE_SIM_TU`` names.

Shape letters: P nodes of all graphs, E directed edges, G graphs, F kinds of nodes.
Reference: Morris, Kriege, Bause, Kersting, Mutzel, Neumann, "TUDataset", 2020, arXiv:2007.08663.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.errors import DataError
from lie_sim.pooling.graph_batch import GraphBatch, row_offsets

TU_FOLDER = "LIE_SIM_TU"
"""Environment variable that names the folder of the sets."""


@dataclass(frozen=True)
class GraphSet:
    """Graphs with a class each.

    Args:
        graphs: all of them as one batch.
        labels: classes from 0, shape (G,).
        num_classes: how many classes there are.
        name: of the set.
    """

    graphs: GraphBatch
    labels: Int[Tensor, " G"]
    num_classes: int
    name: str = ""

    def __len__(self) -> int:
        """G."""
        return self.graphs.num_graphs

    @property
    def num_features(self) -> int:
        """F."""
        return self.graphs.x.shape[1]

    def select(self, indices: Int[Tensor, " B"]) -> GraphBatch:
        """Some of the graphs, in this order, as a batch."""
        graphs = self.graphs
        begin = row_offsets(graphs.sizes)
        nodes, number = _ranges(begin[indices], graphs.sizes[indices])
        edges, _ = _ranges(graphs.offsets[nodes], graphs.degrees[nodes])
        sizes = graphs.sizes[indices]
        moved = row_offsets(sizes)[:-1] - begin[indices]
        degrees = graphs.degrees[nodes]
        return GraphBatch(
            x=graphs.x[nodes],
            neighbours=graphs.neighbours[edges] + moved[number].repeat_interleave(degrees),
            offsets=row_offsets(degrees),
            graph=number,
            num_graphs=len(indices),
            weights=None if graphs.weights is None else graphs.weights[nodes],
        )


def _ranges(begin: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The whole numbers of each range one after another, and the number of the range that each comes from."""
    number = torch.repeat_interleave(length)
    within = torch.arange(len(number)) - row_offsets(length)[:-1][number]
    return begin[number] + within, number


def tu_folder(folder: str | Path | None = None) -> Path:
    """Where the sets are: the argument, else ``$LIE_SIM_TU``.

    Raises:
        DataError: neither is given.
    """
    given = folder if folder is not None else os.environ.get(TU_FOLDER)
    if not given:
        raise DataError(
            f"where are the graph sets? Give the folder, or set {TU_FOLDER} to it; each set is a folder NAME in it "
            "with NAME_A.txt, NAME_graph_indicator.txt and NAME_graph_labels.txt"
        )
    return Path(given)


def read_tu(name: str, folder: str | Path | None = None) -> GraphSet:
    """Read one set of the TU collection; kinds of nodes become one-hot features, a constant 1 where there are none.

    Args:
        name: of the set, such as "NCI1".
        folder: that holds the folder of the set; None for ``$LIE_SIM_TU``.

    Raises:
        DataError: a file is missing or malformed, or contradicts another; the message says which and where.
    """
    place = tu_folder(folder) / name
    owner = _column(place / f"{name}_graph_indicator.txt")
    classes = _column(place / f"{name}_graph_labels.txt")
    _check_owners(owner, len(classes), place / f"{name}_graph_indicator.txt")
    near, far = _edges(place / f"{name}_A.txt", owner)
    labels, found = _from_zero(classes)
    kinds = place / f"{name}_node_labels.txt"
    graphs = GraphBatch(
        x=_features(kinds, len(owner)),
        neighbours=torch.from_numpy(far),
        offsets=row_offsets(torch.from_numpy(np.bincount(near, minlength=len(owner)))),
        graph=torch.from_numpy(owner - 1),
        num_graphs=len(classes),
    )
    return GraphSet(graphs=graphs, labels=labels, num_classes=found, name=name)


def _table(path: Path, columns: int) -> np.ndarray:
    """Whole numbers of a file, shape (lines, columns)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    rows = [line.split(",") for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise DataError(f"{path}, line {number}: expected {columns} numbers, got {lines[number - 1]!r}")
    try:
        return np.array(rows, dtype=np.int64).reshape(-1, columns)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path} holds something other than whole numbers: {error}") from error


def _column(path: Path) -> np.ndarray:
    return _table(path, 1)[:, 0]


def _check_owners(owner: np.ndarray, num_graphs: int, path: Path) -> None:
    if not num_graphs or not len(owner):
        raise DataError(f"{path.parent} holds no graph")
    if not np.array_equal(np.unique(owner), np.arange(1, num_graphs + 1)):
        raise DataError(
            f"{path} must name every graph, numbered from 1 to {num_graphs} as there are labels of graphs"
        )
    if (np.diff(owner) < 0).any():
        raise DataError(f"{path}, line {int(np.argmax(np.diff(owner) < 0)) + 2}: the graphs must ascend")


def _edges(path: Path, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of every directed edge, from 0, sorted by the near end, each once and without loops."""
    pairs = _table(path, 2) - 1
    outside = (pairs < 0) | (pairs >= len(owner))
    if outside.any():
        line = int(np.argmax(outside.any(1)))
        number = int(pairs[line][outside[line]][0]) + 1
        raise DataError(
            f"{path}, line {line + 1}: there is no node {number}; they are numbered from 1 to {len(owner)}"
        )
    across = owner[pairs[:, 0]] != owner[pairs[:, 1]]
    if across.any():
        raise DataError(f"{path}, line {int(np.argmax(across)) + 1}: an edge between two graphs")
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    turned = np.unique(pairs[:, ::-1], axis=0)
    if not np.array_equal(pairs, turned):
        there = set(map(tuple, (pairs + 1).tolist()))
        alone = next(pair for pair in sorted(there) if pair[::-1] not in there)
        raise DataError(f"{path}: the edge {alone} is there in one direction only")
    return pairs[:, 0], pairs[:, 1]


def _from_zero(values: np.ndarray) -> tuple[Tensor, int]:
    """Values numbered in ascending order, and how many different ones there are."""
    distinct, number = np.unique(values, return_inverse=True)
    return torch.from_numpy(number.reshape(-1)), len(distinct)


def _features(path: Path, num_nodes: int) -> Float[Tensor, "P F"]:
    if not path.is_file():
        return torch.ones(num_nodes, 1)
    kinds = _column(path)
    if len(kinds) != num_nodes:
        raise DataError(f"{path} has {len(kinds)} kinds for {num_nodes} nodes")
    number, distinct = _from_zero(kinds)
    return torch.nn.functional.one_hot(number, distinct).float()


def stratified_folds(labels: Int[Tensor, " G"], num_folds: int = 10, *, seed: int) -> list[Int[Tensor, " _"]]:
    """Disjoint parts of all indices in which every class has its share, within one.

    Args:
        labels: class of each sample, shape (G,).
        num_folds: number of parts, from 2 to G.
        seed: of the permutation.

    Raises:
        ValueError: impossible number of parts.

    Example:
        >>> [fold.tolist() for fold in stratified_folds(torch.tensor([0, 0, 1, 1]), 2, seed=0)]
        [[0, 3], [1, 2]]
    """
    if not 2 <= num_folds <= len(labels):
        raise ValueError(f"num_folds must be from 2 to {len(labels)}, the number of samples, got {num_folds}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    dealt = order[torch.argsort(labels[order], stable=True)]
    return [dealt[start::num_folds].sort().values for start in range(num_folds)]


def fold_split(
    folds: Sequence[Int[Tensor, " _"]], fold: int
) -> tuple[Int[Tensor, " t"], Int[Tensor, " v"], Int[Tensor, " s"]]:
    """Training, validation and test part: fold ``fold`` is for the test, the next one for validation.

    Args:
        folds: three or more disjoint parts, such as those of :func:`stratified_folds`.
        fold: number of the fold for the test, from 0.

    Raises:
        ValueError: there are less than three folds, or no such fold.

    Example:
        >>> [part.tolist() for part in fold_split([torch.tensor([k]) for k in range(4)], 3)]
        [[1, 2], [0], [3]]
    """
    if len(folds) < 3:
        raise ValueError(f"training, validation and test need three folds or more, got {len(folds)}")
    if not 0 <= fold < len(folds):
        raise ValueError(f"fold must be from 0 to {len(folds) - 1}, got {fold}")
    following = (fold + 1) % len(folds)
    train = [part for number, part in enumerate(folds) if number not in (fold, following)]
    return torch.cat(train), folds[following], folds[fold]
