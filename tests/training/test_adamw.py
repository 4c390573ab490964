"""Our AdamW is torch's, bit for bit."""

from __future__ import annotations

import torch

from lie_sim.training.adamw import AdamW


def problem() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2,)]
    return [torch.randn(shape, generator=generator).requires_grad_(True) for shape in shapes]


def loss(weights: list[torch.Tensor], step: int) -> torch.Tensor:
    used = weights if step % 3 else weights[:2]  # the last weight has no gradient in some steps
    return sum(((weight - 1) ** 4).sum() + torch.sin(step * weight).sum() for weight in used)


def test_equal_to_torch() -> None:
    ours, theirs = problem(), problem()
    optimizer = AdamW(ours, betas=(0.9, 0.99), weight_decay=0.1)
    reference = torch.optim.AdamW(theirs, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    for step in range(12):
        rate = 0.1 / (1 + step)
        optimizer.zero_grad()
        loss(ours, step).backward()
        optimizer.step(learning_rate=rate)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        loss(theirs, step).backward()
        reference.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_saved_moments_continue_the_run() -> None:
    straight, resumed = problem(), problem()
    first = AdamW(straight, betas=(0.9, 0.99), weight_decay=0.0)
    second = AdamW(resumed, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(1, 6):
        if step == 3:
            saved = {name: tensor.clone() for name, tensor in second.tensors().items()}
            second = AdamW(resumed, betas=(0.9, 0.99), weight_decay=0.0)
            second.load_tensors(saved)
        for weights, optimizer in ((straight, first), (resumed, second)):
            optimizer.zero_grad()
            loss(weights, step).backward()
            optimizer.step(learning_rate=0.05)
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))
