"""Your own data: arrays of positions and momenta in, a Hamiltonian out.

The arrays could come from an experiment or from another program. Here a few lines of numpy make them: particles
that hold together by a Morse potential, which is not one of the systems of the library.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from lie_sim import Hamiltonian, LieTransformer, Particles
from lie_sim.checkpoint import load_model
from lie_sim.data import Trajectories
from lie_sim.models import LieTransformerConfig
from lie_sim.rollout import mean_squared_error, rollout
from lie_sim.training import TrainingConfig, dynamics_task, fit_scales, train

NUM_SYSTEMS, NUM_TIMES, NUM_PARTICLES, DT = 160, 101, 4, 0.02


def morse_force(q: np.ndarray) -> np.ndarray:
    """−∂V/∂q of V = Σ_{i<j} (1 − exp(1 − r_ij))², shape (S, N, 2)."""
    gap = q[:, :, None] - q[:, None]
    r = np.sqrt((gap**2).sum(-1, keepdims=True) + 1e-12)
    slope = 2 * (1 - np.exp(1 - r)) * np.exp(1 - r)
    return -(slope * gap / r).sum(2)


def simulate() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and momenta, each (S, T, N, 2), and masses (S, N), by leapfrog with a fine step."""
    random = np.random.default_rng(0)
    masses = random.uniform(0.5, 2.0, (NUM_SYSTEMS, NUM_PARTICLES))
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    q = corners + 0.15 * random.normal(size=(NUM_SYSTEMS, NUM_PARTICLES, 2))
    p = 0.3 * random.normal(size=q.shape)
    substeps, path = 5, [(q, p)]
    step = DT / substeps
    for _ in range(NUM_TIMES - 1):
        for _ in range(substeps):
            p = p + 0.5 * step * morse_force(q)
            q = q + step * p / masses[..., None]
            p = p + 0.5 * step * morse_force(q)
        path.append((q, p))
    return np.stack([a for a, _ in path], 1), np.stack([b for _, b in path], 1), masses


def main() -> None:
    q, p, masses = (torch.from_numpy(array) for array in simulate())
    times = DT * torch.arange(NUM_TIMES, dtype=torch.float64)
    data = Trajectories(q, p, times, Particles(masses=masses))
    train_data, validation_data, test_data = data.split(120, 20, 20)

    # The potential does not depend on the masses; saying so is one option.
    torch.manual_seed(0)
    model = LieTransformer(
        fit_scales(LieTransformerConfig(dim=2, num_layers=1, use_masses=False), train_data.windows(5))
    )
    config = TrainingConfig(
        max_steps=200, batch_size=50, learning_rate=1e-2, ema_decay=0.98, validate_every=0
    )
    task = dynamics_task(config, train_data, validation_data)
    with tempfile.TemporaryDirectory() as folder:
        result = train(Hamiltonian(model), task, config, folder, progress=False)
        hamiltonian = load_model(f"{folder}/model")  # the result is on disk: safetensors and JSON
    print(f"trained for {config.max_steps} steps, {result.cpu_seconds:.0f} CPU s")

    hamiltonian.double()
    predicted = rollout(
        hamiltonian, test_data.state(0), test_data.particles, step_size=DT, num_steps=NUM_TIMES - 1
    )
    error = mean_squared_error(predicted, (test_data.q, test_data.p), quantity="q")
    moved = (test_data.q[:, -1] - test_data.q[:, 0]).square().mean().sqrt()
    print(f"unseen systems, t = {float(times[-1]):g}: particles moved by {moved:.2f} (rms),")
    print(f"    predicted with an rms error of {error.mean[-1].sqrt():.4f}")


if __name__ == "__main__":
    main()
