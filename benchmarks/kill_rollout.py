"""Does a rollout of a million steps that is killed at random moments have the same frames as one that is not?

Spring systems advance by leapfrog steps; ``Rollout`` stores every 100th state in a directory, in blocks of 64 frames. A
child process that does so is killed by SIGKILL after a random time (a seeded part of the duration of the undisturbed
run) and started again in the same directory, until it has been killed as often as asked; then it is left to finish.
Every block of frames is compared with the undisturbed run, tensor by tensor and bit by bit: times, positions, momenta,
energies, and the state that the next block starts from.

    python benchmarks/kill_rollout.py --kills 12
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import torch
from kill_and_resume import run_child
from record import record

from lie_sim.data.storage import load_tensors, tensors_digest
from lie_sim.rollout import Rollout, RolloutEnd, StoredRollout
from lie_sim.systems import Springs

SYSTEMS, STEP, SAVE_EVERY = 4, 0.01, 100


def run_rollout(folder: Path, steps: int) -> RolloutEnd:
    """Begin or continue the run in a directory."""
    torch.set_num_threads(1)
    state, particles = Springs().sample(SYSTEMS, generator=torch.Generator().manual_seed(0))
    run = Rollout(Springs(), "leapfrog", STEP, frames_per_block=64)
    return run.run(state, steps, particles=particles, save_every=SAVE_EVERY, directory=folder)


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("block-*.safetensors"))


def digests(folder: Path) -> dict[str, str]:
    """Of every block: its frames, and the state that it ends with."""
    return {path.name: tensors_digest(load_tensors(path, kind="rollout block")[0]) for path in blocks(folder)}


def killed_often(
    folder: Path, steps: int, moments: random.Random, budget: int, share: float
) -> list[dict[str, float]]:
    """Run to the end in one directory, killed ``budget`` times on the way; the kills."""
    kills: list[dict[str, float]] = []
    while len(kills) < budget:
        delay = moments.uniform(0, 2 * share)
        before, torn = len(blocks(folder)), len([*folder.glob(".*")])
        if not run_child(lambda: run_rollout(folder, steps), delay)[0]:
            raise SystemExit("the run ended before it was killed often enough: ask for more steps")
        kills.append(
            {
                "after_seconds": delay,
                "blocks_before": before,
                "blocks_after": len(blocks(folder)),
                "half_written": len([*folder.glob(".*")]) - torn,
            }
        )
        print(f"killed after {delay:6.2f} s with {kills[-1]['blocks_after']:4d} blocks on disk", flush=True)
    run_child(lambda: run_rollout(folder, steps), None)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        calm, killed = Path(scratch, "calm"), Path(scratch, "killed")
        seconds = run_child(lambda: run_rollout(calm, options.steps), None)[1]
        print(f"undisturbed: {options.steps:,} steps in {seconds:.1f} s, {len(blocks(calm))} blocks")
        # on average half of the run is left to the last process
        share = seconds / (2 * options.kills)
        kills = killed_often(killed, options.steps, random.Random(options.seed), options.kills, share)
        expected, found = digests(calm), digests(killed)
        frames = StoredRollout(killed).num_frames
    equal = sum(found.get(name) == digest for name, digest in expected.items())
    identical = found == expected
    figures = {
        "kills": len(kills),
        "steps": options.steps,
        "frames": frames,
        "blocks": len(expected),
        "blocks_equal": equal,
        "identical": float(identical),
        "half_written_files": sum(kill["half_written"] for kill in kills),
        "kills_without_progress": sum(kill["blocks_after"] == kill["blocks_before"] for kill in kills),
    }
    for name, value in figures.items():
        print(f"{name:24s} {value:,.0f}")
    if not options.dry_run:
        details = {
            "kills": kills,
            "undisturbed_seconds": seconds,
            "systems": SYSTEMS,
            "save_every": SAVE_EVERY,
        }
        print(record("kill_rollout", figures, threads=1, details=details))
    return 0 if identical else 1


if __name__ == "__main__":
    raise SystemExit(main())
