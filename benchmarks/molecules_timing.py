"""What one contestant takes for energies, forces and training steps, in a process of its own.

Called by molecules_speed.py, prints JSON: milliseconds of process time, one thread, the median over repetitions after a
warm-up. Positions change before every evaluation, so nothing is answered from a cache. Through ASE, an evaluation is
``calculate`` for energy and forces together: one run of the network, also where ``get_forces`` and
``get_potential_energy`` would make it two.

    ethanol, aspirin        energy and forces of one molecule through ASE
    water_N                 the same of N atoms of periodic water
    many_32                 energies and forces of 32 ethanol molecules, from ASE atoms to NumPy, a structure
    step_16, step_32        a training step on ethanol: loss of energies and forces, backward, optimiser; graphs ready
    md                      a step of velocity Verlet on ethanol through ASE

    python benchmarks/molecules_timing.py painn ethanol water_192
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from molecules_frames import geometry

ELEMENTS = (1, 6, 8)
WATER_CELL, WATER_ATOMS = 12.43, 192
"""Å; 64 molecules at the density of the liquid."""
MOST_FRAMES = 50
Action = Callable[[], Any]


def water(atoms: int) -> Atoms:
    """Molecules on a grid at the density of the liquid, turned at random; the cell repeats one of 192 atoms."""
    copies = {
        192: (1, 1, 1),
        384: (2, 1, 1),
        768: (2, 2, 1),
        1536: (2, 2, 2),
        3072: (4, 2, 2),
        5184: (3, 3, 3),
    }
    generator, one = np.random.default_rng(0), molecule("H2O")
    cell = Atoms(cell=[WATER_CELL] * 3, pbc=True)
    for place in np.ndindex(4, 4, 4):
        turned = one.copy()
        turned.rotate(generator.uniform(0, 360), generator.normal(size=3), center="COM")
        turned.positions += (np.array(place) + 0.5) * WATER_CELL / 4
        cell += turned
    full: Atoms = cell.repeat(copies[atoms])
    full.rattle(0.02, seed=1)
    return full


def structure(name: str) -> Atoms:
    """Ethanol, aspirin or water_N."""
    kind, _, count = name.partition("_")
    return water(int(count)) if kind == "water" else geometry(kind)


class Ours:
    """The model of ``lie-sim train molecules``; "ours_compiled" is the same with compiled evaluation.

    Args:
        compiled: whether the calculator is to compile its model.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        from lie_sim.models import AtomicPotential

        torch.manual_seed(0)
        self.module = AtomicPotential.default(elements=ELEMENTS)
        self.options = {"compile": True} if compiled else {}

    def calculator(self) -> Calculator:
        """LieTransformerCalculator."""
        from lie_sim.calculators import LieTransformerCalculator

        return LieTransformerCalculator(self.module, **self.options)

    def many(self, systems: Sequence[Atoms]) -> Action:
        """Through ``predict_many``."""
        calculator = self.calculator()
        return lambda: calculator.predict_many(list(systems), max_atoms=10**6)

    def step(self, systems: Sequence[Atoms], energies: np.ndarray, forces: np.ndarray) -> Action:
        """As ``lie-sim train molecules`` does it, clipping and averaging included."""
        from lie_sim.data.structure_files import from_atoms
        from lie_sim.experiments.molecules import molecules_training
        from lie_sim.training import MoleculesTask
        from lie_sim.training.run_state import RunState

        labelled = []
        for atoms, energy, force in zip(systems, energies, forces, strict=True):
            labelled.append(atoms.copy())
            labelled[-1].info["REF_energy"], labelled[-1].arrays["REF_forces"] = energy, force
        data = from_atoms(labelled)
        task = MoleculesTask(data, data, cutoff=self.module.cutoff)
        task = task.to(dtype=torch.float32, device=torch.device("cpu"))
        state = RunState(self.module.train(), molecules_training(), {})
        everything, generator = torch.arange(len(systems)), torch.Generator()

        def step() -> None:
            state.optimizer.zero_grad()
            task.loss(self.module, task.batch(everything, generator)).backward()
            torch.nn.utils.clip_grad_norm_(state.parameters, 10.0)
            state.optimizer.step(learning_rate=1e-4)
            state.step += 1
            state.average_weights()

        return step


class Theirs:
    """A peer of molecule_peers."""

    def __init__(self, name: str) -> None:
        from molecule_peers import PEERS

        torch.manual_seed(0)
        self.peer = PEERS[name](ELEMENTS)
        self.module = self.peer.module

    def calculator(self) -> Calculator:
        """That of its package."""
        return self.peer.calculator()

    def many(self, systems: Sequence[Atoms]) -> Action:
        """Its own graphs, one batch, weights that need no gradients."""
        peer = copy.copy(self.peer)
        peer.module = self.peer.frozen()

        def run() -> tuple[np.ndarray, np.ndarray]:
            energies, forces = peer.evaluate([peer.graph(atoms) for atoms in systems], training=False)
            return energies.detach().numpy(), forces.detach().numpy()

        return run

    def step(self, systems: Sequence[Atoms], energies: np.ndarray, forces: np.ndarray) -> Action:
        """As molecules_training.py trains it."""
        from molecules_frames import Frames
        from molecules_training import Trainer

        frames = Frames(systems[0].numbers, np.array([a.positions for a in systems]), energies, forces)
        trainer = Trainer(self.peer, frames, rate=1e-4, optimizer="adamw")
        trainer.batch = len(systems)
        return lambda: trainer.step(0.5)


def milliseconds(action: Action, *, seconds: float, warm_up: int = 3) -> float:
    """Median process time of an action, over at least five calls."""
    for _ in range(warm_up):
        action()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return 1e3 * statistics.median(times)


def through_ase(calculator: Calculator, atoms: Atoms) -> Action:
    """One evaluation of energy and forces at slightly other positions."""
    generator, start, atoms = np.random.default_rng(0), atoms.positions.copy(), atoms.copy()

    def run() -> None:
        atoms.positions = start + 1e-3 * generator.normal(size=start.shape)
        calculator.calculate(atoms, ["energy", "forces"], all_changes)

    return run


def dynamics(calculator: Calculator) -> Action:
    """A step of velocity Verlet of ethanol, which starts anew now and then: untrained potentials take it anywhere."""
    start = molecule("CH3CH2OH")
    atoms = start.copy()
    atoms.calc = calculator
    verlet = VelocityVerlet(atoms, 0.1 * units.fs)

    def run() -> None:
        if verlet.nsteps % MOST_FRAMES == 0:
            atoms.positions = start.positions
            thermalize_momenta(atoms, 300, rng=np.random.default_rng(0))
        verlet.run(1)

    return run


def measure(contestant: Ours | Theirs, what: str, *, seconds: float) -> float:
    """Milliseconds of one of the measurements; of "many_N" those of one structure."""
    kind, _, count = what.partition("_")
    if kind == "md":
        return milliseconds(dynamics(contestant.calculator()), seconds=seconds)
    if kind in ("many", "step"):
        generator = np.random.default_rng(0)
        systems = [molecule("CH3CH2OH") for _ in range(int(count))]
        for atoms in systems:
            atoms.positions += 0.05 * generator.normal(size=atoms.positions.shape)
        if kind == "many":
            return milliseconds(contestant.many(systems), seconds=seconds) / len(systems)
        labels = generator.normal(size=len(systems)), generator.normal(size=(len(systems), 9, 3))
        return milliseconds(contestant.step(systems, *labels), seconds=seconds)
    return milliseconds(through_ase(contestant.calculator(), structure(what)), seconds=seconds)


def peak_mib() -> float:
    """Largest resident set of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contestant")
    parser.add_argument("measurements", nargs="+")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    own = options.contestant.startswith("ours")
    contestant: Ours | Theirs = (
        Ours(compiled=options.contestant == "ours_compiled") if own else Theirs(options.contestant)
    )
    before, rows = peak_mib(), {}
    for what in options.measurements:
        rows[what] = measure(contestant, what, seconds=options.seconds)
    parameters = sum(p.numel() for p in contestant.module.parameters())
    print(json.dumps({"ms": rows, "extra_mib": peak_mib() - before, "parameters": parameters}))


if __name__ == "__main__":
    main()
