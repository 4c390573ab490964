"""Muon moves every direction of a matrix equally; other weights are AdamW's; resuming changes nothing."""

from __future__ import annotations

import pytest
import torch

from lie_sim.training.adamw import AdamW
from lie_sim.training.muon import Muon, orthogonalise

SINGULAR_VALUES = (0.65, 1.25)  # where the published coefficients leave them
HALF_PRECISION = 0.05  # torch's Muon orthogonalises in bfloat16


def problem() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 9), (9, 6), (6, 9), (5,), (9, 3)]
    return [torch.randn(shape, generator=generator).requires_grad_(True) for shape in shapes]


def loss(weights: list[torch.Tensor], step: int) -> torch.Tensor:
    used = weights if step % 3 else weights[:2]  # the others have no gradient in some steps
    return sum(((weight - 1) ** 4).sum() + torch.sin(step * weight).sum() for weight in used)


def run(optimizer: Muon | AdamW, weights: list[torch.Tensor], steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss(weights, step).backward()
        optimizer.step(learning_rate=0.05)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)])
def test_orthogonalise_keeps_the_singular_vectors(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonalise(matrices) @ vh.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert float((inner - torch.diag_embed(values)).abs().max()) < 1e-5
    assert SINGULAR_VALUES[0] < float(values.min())
    assert float(values.max()) < SINGULAR_VALUES[1]


def test_no_gradient_gives_no_step() -> None:
    weight = torch.ones(4, 4, requires_grad=True)
    optimizer = Muon([weight], betas=(0.9, 0.99), weight_decay=0.0)
    optimizer.step(learning_rate=0.1)
    (0 * weight).sum().backward()
    optimizer.step(learning_rate=0.1)
    assert torch.equal(weight, torch.ones(4, 4))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_matrices_move_as_in_torch() -> None:
    ours, theirs = problem()[:3], problem()[:3]
    optimizer = Muon(ours, betas=(0.9, 0.99), weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in (1, 2, 4):
        for weights, one in ((ours, optimizer), (theirs, reference)):
            one.zero_grad()
            loss(weights, step).backward()
        optimizer.step(learning_rate=0.05)
        reference.step()
    for mine, other, start in zip(ours, theirs, problem(), strict=False):
        assert float(((mine - other).norm() / (other - start).norm()).detach()) < HALF_PRECISION


def test_vectors_and_small_matrices_move_as_with_adamw() -> None:
    ours, theirs = problem(), problem()
    run(Muon(ours, betas=(0.9, 0.99), weight_decay=0.1, other_rate=1.0), ours, range(6))
    run(AdamW(theirs, betas=(0.9, 0.99), weight_decay=0.1), theirs, range(6))
    same = [torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    assert same == [False, False, False, True, True]


def test_saved_momenta_continue_the_run() -> None:
    straight, resumed = problem(), problem()
    run(Muon(straight, betas=(0.9, 0.99), weight_decay=0.0), straight, range(6))
    first = Muon(resumed, betas=(0.9, 0.99), weight_decay=0.0)
    run(first, resumed, range(3))
    second = Muon(resumed, betas=(0.9, 0.99), weight_decay=0.0)
    second.load_tensors({name: tensor.clone() for name, tensor in first.tensors().items()})
    run(second, resumed, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))
