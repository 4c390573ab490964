"""Learn six particles on springs from 200 short observations, then predict systems that were never seen.

A short run: 200 steps. ``lie-sim train springs`` does the same with more of them, and writes a report.
"""

from __future__ import annotations

import torch

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.data import make_trajectories
from lie_sim.experiments.dynamics import score_rollout
from lie_sim.experiments.springs import free_motion_scores, springs_model
from lie_sim.systems import Springs
from lie_sim.training import TrainingConfig, dynamics_task, fit_scales, train

NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 200, 50, 20


def main() -> None:
    # Each trajectory contributes one random chunk of five points, 0.04 time units long.
    generator = torch.Generator().manual_seed(0)
    trajectories = make_trajectories(Springs(), NUM_TRAIN + NUM_VALIDATION + NUM_TEST, seed=0)
    seen = trajectories[: NUM_TRAIN + NUM_VALIDATION].chunks(5, generator=generator)
    train_data, validation_data = seen.split(NUM_TRAIN, NUM_VALIDATION)
    test_data = trajectories[NUM_TRAIN + NUM_VALIDATION :].chunks(101, generator=generator)

    # The model gets its units from the data, the loss its force targets from positions and momenta.
    torch.manual_seed(0)
    hamiltonian = Hamiltonian(LieTransformer(fit_scales(springs_model(), train_data)))
    config = TrainingConfig(
        max_steps=200, batch_size=50, learning_rate=1e-2, ema_decay=0.98, validate_every=0
    )
    task = dynamics_task(config, train_data, validation_data)
    result = train(
        hamiltonian, task, config, progress=False
    )  # with a folder, it could be stopped and resumed
    print(f"trained for {config.max_steps} steps, {result.cpu_seconds:.0f} CPU s")

    # 100 steps, 25 times as far as any training observation.
    assert isinstance(result.module, Hamiltonian)
    learned, free = score_rollout(result.module, test_data), free_motion_scores(test_data)
    print(f"mean squared error over 100 steps, {NUM_TEST} unseen systems:")
    print(f"    LieTransformer {learned.mean:.1e}")
    print(f"    free motion    {free.mean:.1e}")


if __name__ == "__main__":
    main()
