"""The processes that train one module together, each on its share of every batch.

    g = Σ_r (B_r/B) g_r        gradient of the batch, of which process r of n takes the rows r, r + n, r + 2n, …

Every process draws the whole batch, a function of seed and step, and keeps its rows: what is random in a batch does not
depend on how many share it, and n processes follow one but for rounding. Gradients are summed after the backward pass,
all in one buffer; forces are gradients themselves, and hooks inside a second backward pass would see them too.

Shape letters: B rows of the batch, n processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from lie_sim.errors import ConfigError
from lie_sim.training.tasks import Batch

T = TypeVar("T")


class World:
    """A single process, whose share is the whole batch.

    Attributes:
        rank: number of this process; 0 writes the files and validates.
        size: n.

    Example:
        >>> World().total(2.5)
        2.5
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """This process's rows of a batch, and their part B_r/B."""
        return batch, 1.0

    def mean(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Replace each tensor by its weighted sum over all processes."""

    def total(self, value: float) -> float:
        """The sum over all processes."""
        return value

    def first(self, compute: Callable[[], T]) -> T:
        """What process 0 computes, or the exception it raises, in all of them."""
        return compute()

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Tell whoever started the processes how far they are; all of them call this together."""


class ProcessGroup(World):
    """The processes of :mod:`torch.distributed`'s group, which must exist; its CPU backend must be Gloo.

    The sums of a ring or tree of fixed size are the same in every run, and in every process.
    """

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """Every n-th row, from row r on.

        Raises:
            ConfigError: there are fewer rows than processes.
        """
        rows = len(next(iter(batch.values())))
        if rows < self.size:
            raise ConfigError(
                f"a batch of {rows} cannot be shared by {self.size} workers: use a larger batch_size or fewer workers"
            )
        mine = {name: tensor[self.rank :: self.size] for name, tensor in batch.items()}
        return mine, len(next(iter(mine.values()))) / rows

    def mean(self, tensors: Sequence[Tensor], weight: float) -> None:
        """The weighted sum, in the dtype of the first tensor."""
        flat = torch.cat([tensor.detach().reshape(-1).to(tensors[0].dtype) for tensor in tensors])
        distributed.all_reduce(flat.mul_(weight))
        for tensor, values in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))

    def total(self, value: float) -> float:
        """The sum, in double precision."""
        summed = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(summed)
        return summed.item()

    def first(self, compute: Callable[[], T]) -> T:
        """Of process 0, sent to the others."""
        found: list[Any] = [None, None]
        if self.rank == 0:
            try:
                found[0] = compute()
            except Exception as error:
                found[1] = error
        distributed.broadcast_object_list(found, device=torch.device("cpu"))
        if found[1] is not None:
            raise found[1]
        result: T = found[0]
        return result
