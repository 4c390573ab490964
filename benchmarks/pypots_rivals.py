"""SAITS and BRITS of PyPOTS on windows of observations: all series of a window are the features of a time.

    pip install --target DIR pypots;  PYTHONPATH=DIR python benchmarks/...

They train for about the time that they are given: one epoch is timed, the rest follows. What is hidden in their
validation is what ours sees hidden; they choose their best epoch by it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lie_sim.imputation import Observations

SIZES: dict[str, dict[str, Any]] = {
    "saits": {"n_layers": 2, "d_model": 64, "n_heads": 4, "d_k": 16, "d_v": 16, "d_ffn": 128},
    "saits_small": {"n_layers": 1, "d_model": 32, "n_heads": 4, "d_k": 8, "d_v": 8, "d_ffn": 64},
    "brits": {"rnn_hidden_size": 64},
}
"""Name to options."""


def rivals() -> list[str]:
    """Who is there."""
    return list(SIZES) if importlib.util.find_spec("pypots") is not None else []


class Rival:
    """A trained model.

    Args:
        name: of it.
        known: windows to learn from.
        held: windows to choose by.
        hidden: what is hidden in these.
        seed: of its weights.
        budget: CPU seconds.

    Attributes:
        num_parameters: of it.
        epochs: that it was trained for.
    """

    def __init__(
        self, name: str, known: Observations, held: Observations, hidden: Tensor, *, seed: int, budget: float
    ) -> None:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # it prints a banner
            make: Any = getattr(importlib.import_module("pypots.imputation"), name.partition("_")[0].upper())
            importlib.import_module("pypots.utils.random").set_random_seed(seed)
        _, steps, places, measurements = known.values.shape
        data = {"X": _table(known)}
        validation = {"X": _table(held.hiding(hidden)), "X_ori": _table(held)}

        def fitted(epochs: int) -> Any:
            model = make(steps, places * measurements, epochs=epochs, verbose=False, **SIZES[name])
            model.fit(data, validation)
            return model

        epoch = _seconds(lambda: fitted(2)) - _seconds(lambda: fitted(1))
        self.epochs = max(1, round(budget / max(epoch, 1e-3)))
        self.model = fitted(self.epochs)
        self.num_parameters = sum(each.numel() for each in self.model.model.parameters())

    def __call__(self, seen: Observations) -> Tensor:
        """Estimates of all entries."""
        found = torch.as_tensor(np.asarray(self.model.impute({"X": _table(seen)})))
        return found.reshape(seen.values.shape).to(seen.values)


def _table(seen: Observations) -> np.ndarray:
    table: np.ndarray = torch.where(seen.observed, seen.values, torch.nan).flatten(2).float().numpy()
    return table


def _seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
