"""A wider network gives the same energies and forces, and its new features learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.optimize import BFGS

from lie_sim.calculators import LieTransformerCalculator, vibrations
from lie_sim.data.structure_files import from_atoms
from lie_sim.models import AtomicPotential, evaluate, heads
from lie_sim.state import Particles

NETWORK = {"width": 8, "num_heads": 4, "num_moments": 4, "kernel_hidden": 8, "num_layers": 3}


@pytest.fixture
def potential() -> AtomicPotential:
    torch.manual_seed(0)
    made = AtomicPotential.default(elements=(1, 8), network=NETWORK).double()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


@pytest.fixture
def system() -> tuple[torch.Tensor, Particles]:
    q = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1.5
    numbers = torch.tensor([[8, 1, 1, 8, 1]] * 2)
    return q, Particles(masses=torch.ones(2, 5, dtype=torch.float64), species=numbers)


def test_energies_and_forces_stay(script, potential, system) -> None:
    wide = script("shipped_models_growth").widened(potential, 20)
    assert wide.config.network["width"] == 20
    old, new = evaluate(potential, *system), evaluate(wide, *system)
    torch.testing.assert_close(new.energy, old.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(new.forces, old.forces, rtol=0, atol=1e-12)


def test_the_energy_learns_to_see_the_new_features(script, potential, system) -> None:
    wide = script("shipped_models_growth").widened(potential, 20)
    wide.energy(*system).sum().backward()
    out = wide.network.backbone.blocks[0].attention.out.weight
    assert out.grad is not None
    slope = wide.network.head.out.weight.grad[:, 8:]
    assert slope.abs().min() > 0


def test_a_stage_begins_with_more_features_and_heads(script, potential, system) -> None:
    waters = [molecule("H2O"), molecule("H2O")]
    for number, water in enumerate(waters):
        water.rattle(0.05, seed=number)
        water.info |= {"REF_energy": -10.0, "REF_dipole": [0.1, number, 0.2]}
        water.arrays["REF_charges"] = np.array([-0.6, 0.3, 0.3])
    stages, data = script("shipped_models"), from_atoms(waters)
    kept = stages.begun(potential, stages.Stage(1, 0.1, width=8), data)
    assert (kept, kept.training) == (potential, True)
    grown = stages.begun(potential, stages.Stage(1, 0.1, width=20, heads=("dipole", "charges")), data)
    assert (list(grown.config.heads), grown.config.network["width"]) == (["dipole", "charges"], 20)
    old, new = evaluate(potential, *system), evaluate(grown, *system)
    torch.testing.assert_close(new.forces, old.forces, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="not 8"):
        stages.begun(grown, stages.Stage(1, 0.1, width=8), data)


@pytest.mark.parametrize(("name", "motions"), [("C2H2", 7), ("H2O", 3), ("N2", 1)])
def test_wavenumbers_are_without_motions_as_a_whole(script, name: str, motions: int) -> None:
    atoms = molecule(
        name, calculator=LieTransformerCalculator("organic-gfn2", dtype="float64", on_uncertain="ignore")
    )
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=300)
    found = vibrations(atoms.calc, atoms)
    wavenumbers = script("shipped_models_figures").wavenumbers(found)
    expected = found.get_frequencies().real[-motions:]
    assert wavenumbers.shape == (motions,)
    np.testing.assert_allclose(wavenumbers, expected, atol=0.1)


def test_what_would_change_is_refused(script, potential) -> None:
    network = potential.config.network | {"norm": "post"}
    other = AtomicPotential.default(elements=(1, 8), network=network)
    with pytest.raises(ValueError, match="a mean over features would change: norm 'post', heads none"):
        script("shipped_models_growth").widened(other, 20)
    gap = AtomicPotential.default(elements=(1, 8), network=NETWORK, heads=heads(gap="intensive"))
    with pytest.raises(ValueError, match="heads intensive"):
        script("shipped_models_growth").widened(gap, 20)


def test_a_network_cannot_get_narrower(script, potential) -> None:
    with pytest.raises(ValueError, match="more than its 8 features, not 4"):
        script("shipped_models_growth").widened(potential, 4)
