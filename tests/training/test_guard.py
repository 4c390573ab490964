"""The finite guard on a device where looking is expensive, and catching Ctrl-C."""

from __future__ import annotations

import signal

import pytest
import torch

from lie_sim.training.guard import FiniteGuard, interruptions


def test_window_names_the_first_bad_step_and_returns_to_good_weights() -> None:
    weight = torch.zeros(2)
    guard, fine = FiniteGuard([weight], window=3), torch.tensor(1.0)
    for step in range(3):
        assert guard.first_bad(step, fine, fine) is None
        weight += 1
    assert guard.first_bad(3, fine, fine) is None
    weight += 1
    assert guard.first_bad(4, fine, torch.tensor(float("inf"))) is None
    weight += float("nan")
    assert guard.first_bad(5, torch.tensor(float("nan")), fine) == 4
    guard.restore()
    assert weight.tolist() == [2.0, 2.0]  # as they were at the last look, before the update of step 2


def test_ctrl_c_is_noted_once_and_the_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptions() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
