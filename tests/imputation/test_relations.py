"""Relations between measurements at one time are learned, of places with units of their own as well."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lie_sim.imputation import CDSA, CDSAConfig, ImputationTask, Observations
from lie_sim.imputation.relations import Relations
from lie_sim.training import TrainingConfig, train

PAIR = CDSAConfig(num_measurements=2, width=16, num_heads=2, num_layers=1)
TRAINING = TrainingConfig(max_steps=250, batch_size=32, learning_rate=1e-2, validate_every=250)


def error_of_the_second(config: CDSAConfig, values: Tensor) -> float:
    """Mean error where the second measurement is hidden and the first is not, after a training on others."""
    seen = Observations.of(values, torch.arange(values.shape[1]).float().expand(len(values), -1))
    parts = [
        Observations(seen.values[k], seen.observed[k], seen.times[k]) for k in (slice(128), slice(128, None))
    ]
    torch.manual_seed(0)
    task = ImputationTask(*parts, share=0.2)
    module = train(CDSA(config), task, TRAINING, progress=False).module
    hidden: Tensor = task._validation["hidden"]
    with torch.no_grad():
        found = module(parts[1].hiding(hidden)).estimated
    asked = hidden[..., 1] & ~hidden[..., 0]
    return float((found - parts[1].values).abs()[..., 1][asked].mean())


def squares(units: Tensor) -> Tensor:
    """Two numbers a place, the second the square of the first, in units of each place; shape (160, 12, 3, 2)."""
    x = torch.randn(160, 12, 3, generator=torch.Generator().manual_seed(0))
    return torch.stack([x * units, x.square() - 1], dim=-1)


def test_a_number_that_follows_from_another_is_found() -> None:
    values = squares(torch.ones(3))
    assert error_of_the_second(PAIR, values) < 0.1
    assert error_of_the_second(replace(PAIR, relation_width=0), values) > 0.2


def test_places_may_have_units_of_their_own() -> None:
    values = squares(torch.tensor([0.5, 1.0, 2.0]))
    assert error_of_the_second(replace(PAIR, num_places=3), values) < 0.15
    assert error_of_the_second(PAIR, values) > 0.4


def test_what_is_observed_is_read_and_estimates_elsewhere() -> None:
    torch.manual_seed(0)
    network = Relations(replace(PAIR, num_places=3)).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    values = torch.randn(2, 5, 3, 2, dtype=torch.float64)
    seen = Observations(values, torch.rand(values.shape) > 0.4, torch.arange(5.0).expand(2, -1))
    found, zero = torch.randn_like(values), torch.zeros_like(values)
    higher = Observations(values + 3.0, seen.observed, seen.times)
    for name, moves in (("all", False), ("each", True)):  # levels matter within a place alone
        alone = Relations(replace(PAIR, num_places=3)).double()
        other = {"all": "each", "each": "all"}[name]
        setattr(alone, name, getattr(network, name))
        setattr(alone, other, None)
        change = alone(higher, found + 3.0, zero)[0] - alone(seen, found, zero)[0] - 3.0
        assert (float(change.detach().abs().max()) > 1e-6) == moves
    asked = found.clone().requires_grad_()
    corrected, log_scale = network(seen, asked, zero)
    (gradient,) = torch.autograd.grad((corrected - asked).sum() + log_scale.sum(), asked)
    assert torch.equal(gradient[seen.observed], zero[seen.observed])
    assert bool((gradient[~seen.observed] != 0).all())
    spoiled = Observations(torch.where(seen.observed, values, torch.nan), seen.observed, seen.times)
    assert torch.equal(network(spoiled, found, zero)[0], network(seen, found, zero)[0])


def test_every_weight_is_kept_once() -> None:
    model = CDSA(replace(PAIR, num_places=3))
    kept = [tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()]
    assert len(kept) == len(set(kept))


def test_a_series_alone_has_no_relations() -> None:
    assert not list(Relations(replace(PAIR, num_measurements=1)).parameters())
    assert CDSA(replace(PAIR, relation_width=0)).relations is None
    with pytest.raises(ValueError, match="relation_width must be at least 0, got -1"):
        replace(PAIR, relation_width=-1)
