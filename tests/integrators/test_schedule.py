"""Output times become whole numbers of steps, whatever the dtype of the grid; impossible grids are named."""

from __future__ import annotations

import pytest
import torch

from lie_sim.integrators.schedule import Piece, schedule

SAME = 1e-12  # steps of an even grid, relative


def test_number_of_steps_is_whole_and_their_length_constant() -> None:
    """A float32 grid of 0.02 is uneven by up to 2e-3 of a step; the steps are not."""
    grid = torch.arange(5001, dtype=torch.float32) * 0.02
    assert float((grid.diff() / 0.02 - 1).abs().max()) > 1e-4, "the grid is not rough: the test is void"
    pieces = schedule(grid, 0.01)
    lengths = torch.tensor([piece.step for piece in pieces], dtype=torch.float64)
    assert all(piece.num_steps == 2 and piece.save for piece in pieces)
    assert float((lengths / lengths[0] - 1).abs().max()) < SAME
    assert [piece.num_steps for piece in schedule(torch.tensor([0.0, 0.1, 0.14, 0.141]), 0.02)] == [5, 2, 1]


def test_default_is_one_step_per_interval_and_time_may_run_backwards() -> None:
    assert schedule(torch.tensor([1.0, 0.5, -1.0]), None) == [Piece(-0.5, 1), Piece(-1.5, 1)]
    assert schedule(torch.tensor([1.0]), 0.1) == []


def test_systems_with_fewer_steps_wait_with_steps_of_length_0() -> None:
    t = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.2, -1.0]], dtype=torch.float64)
    pieces = schedule(t, 0.1)
    assert [(piece.num_steps, piece.save) for piece in pieces] == [(2, False), (8, False), (10, True)]
    steps = torch.stack([piece.step for piece in pieces])
    expected = torch.tensor([[0.1, 0.1, -0.1], [0.1, 0.0, -0.1], [0.0, 0.0, -0.1]], dtype=torch.float64)
    assert float((steps - expected).abs().max()) < SAME
    done = sum(piece.num_steps * piece.step for piece in pieces)
    assert float((done - (t[1] - t[0])).abs().max()) < SAME


def test_steps_of_each_system_on_a_common_grid() -> None:
    pieces = schedule(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.25]))
    assert [piece.num_steps for piece in pieces] == [2, 2]
    assert pieces[0].step.tolist() == [0.5, 0.25]
    assert pieces[1].step.tolist() == [0.0, 0.25]


@pytest.mark.parametrize(
    ("t", "step_size", "message"),
    [
        (torch.tensor([0.0, 1.0, 1.0]), None, "strictly increasing or decreasing"),
        (torch.tensor([0.0, 1.0, 0.5]), None, "strictly increasing or decreasing"),
        (torch.tensor([0.0, float("nan")]), None, r"t must be finite, got \[0.0, nan\]"),
        (torch.tensor([0.0, float("inf")]), 0.1, "t must be finite"),
        (torch.tensor([0.0, 1.0]), 1e-300, r"into 1e\+300 steps, more than 1e\+12: take longer steps"),
        (torch.tensor([0.0, 1.0]), torch.tensor([0.1, 1e-300], dtype=torch.float64), "take longer steps"),
        (torch.tensor([[0.0, 0.0], [1.0, 0.0]]), None, "strictly increasing or decreasing"),
        (torch.zeros(2, 2, 2), None, r"shape \(T,\), or \(T, B\)"),
        (torch.tensor([0, 1]), None, "real times"),
        (1e4 + 1e-3 * torch.arange(5), None, "does not resolve .* float64, or count time from 0"),
        (torch.tensor([0.0, 1.0]), 0.0, "positive and finite"),
        (torch.tensor([0.0, 1.0]), -0.1, "positive and finite"),
        (torch.tensor([0.0, 1.0]), float("inf"), "positive and finite"),
    ],
)
def test_impossible_grids_and_steps_are_named(t, step_size, message) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(t, step_size)


def test_the_step_is_the_nearest_that_divides_the_interval() -> None:
    """Up to half longer than the one wanted, and never more; short intervals are one step."""
    steps = {h: schedule(torch.tensor([0.0, 1.0]), h)[0] for h in (0.67, 0.66, 0.4, 3.0)}
    assert {h: piece.num_steps for h, piece in steps.items()} == {0.67: 1, 0.66: 2, 0.4: 2, 3.0: 1}
    assert all(piece.step <= 1.5 * h for h, piece in steps.items())


def test_without_systems_every_time_is_saved() -> None:
    pieces = schedule(torch.linspace(0, 1, 4), torch.ones(0))
    assert sum(piece.save for piece in pieces) == 3


def test_the_same_grid_in_float64_is_taken() -> None:
    assert len(schedule(1e4 + 1e-3 * torch.arange(5, dtype=torch.float64), None)) == 4
