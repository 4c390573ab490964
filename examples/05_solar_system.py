"""Learn gravity from three years of real planet positions (JPL DE421), then predict the year after.

``lie-sim train solar`` fits twenty years and predicts twenty more.
"""

from __future__ import annotations

from dataclasses import replace

from lie_sim.experiments import SolarConfig, SolarExperiment
from lie_sim.systems import SolarSystem
from lie_sim.training import train


def main() -> None:
    config = SolarConfig(train_start="1997-01-01", train_end="2000-01-01", test_end="2001-01-01")
    training = replace(config.training, max_steps=150, validate_every=0, ema_decay=0.98, log_every=100)
    experiment = SolarExperiment(replace(config, training=training))
    print(f"bodies: {', '.join(SolarSystem().bodies)}")
    result = train(experiment.build(), experiment.task(), training, progress=False)
    print(f"trained for {training.max_steps} steps, {result.cpu_seconds:.0f} CPU s")
    figures = experiment.evaluate(result.module, progress=False).results
    print(f"root-mean-square position error from {config.train_end} to {config.test_end}, AU:")
    for name, key in (
        ("LieTransformer", "rms_error_au"),
        ("Newton's law, same integrator", "newton_rms_error_au"),
        ("circular orbits", "circular_rms_error_au"),
        ("straight lines", "constant_velocity_rms_error_au"),
    ):
        print(f"    {name:30s} {figures[key]:.1e}")


if __name__ == "__main__":
    main()
