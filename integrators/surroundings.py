"""What a force must find again to give the same numbers when it is computed once more, for a gradient.

Settings of autocast are restored. Random numbers (dropout) are refused: a force that draws them is no function of q,
so there is nothing to undo, and the gradient would be that of another force.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor


class Autocast:
    """The settings of autocast at the time this object is made.

    Args:
        device: where the computation runs; operations on the CPU have settings of their own.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     settings = Autocast(torch.device("cpu"))
        >>> with settings.restored():
        ...     torch.is_autocast_enabled("cpu")
        True
    """

    def __init__(self, device: torch.device) -> None:
        kinds = [kind for kind in sorted({"cpu", device.type}) if torch.amp.is_autocast_available(kind)]
        self.settings = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds
        ]
        self._cache = torch.is_autocast_cache_enabled()

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Within it, autocast is as it was."""
        with ExitStack() as stack:
            for kind, dtype, enabled in self.settings:
                stack.enter_context(torch.autocast(kind, dtype, enabled, self._cache))
            yield


@contextmanager
def no_random_numbers(device: torch.device) -> Iterator[None]:
    """Within it, nothing may draw from the global generators of PyTorch.

    Args:
        device: where the computation runs.

    Raises:
        ValueError: something did.

    Example:
        >>> with no_random_numbers(torch.device("cpu")):
        ...     _ = torch.ones(2) + 1
    """
    before = _generator_states(device)
    yield
    if not all(torch.equal(a, b) for a, b in zip(before, _generator_states(device), strict=True)):
        raise ValueError(
            'the force draws random numbers (dropout?), so it is not the same when adjoint="reversible" or '
            '"checkpoint" computes it again: put the model in evaluation mode, model.eval(), or use adjoint="autograd"'
        )


def _generator_states(device: torch.device) -> list[Tensor]:
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]
