"""Do the symmetries hold to rounding, before and after training, and are all forces finite?

Four questions, each with a figure of its own:

    invariance        max |E(g·q) − E(q)| / std(E) over 32 systems: T(n), SE(n), O(n), E(n) with soft frames, C_n,
                      D_n, T, O, I with the finite lift, each before and after training on springs (2-D) or softened
                      charges (1-D, 3-D)
    finite forces     share of 1,000 random batches whose forces are all finite, for every lifting, in both float
                      types; the batches hold coincident, collinear, planar, single, identical and symmetric particles
    log round trip    |log(exp a) − a| in float32 for angles from 0 to π − 1e-4
    Haar slope        slope of log(error) against log(L) of the random lifting; −1/2 is the law of large numbers

    python benchmarks/symmetry.py [--quick]

Two to three CPU minutes on one thread. ``--quick`` takes small samples and records nothing.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from record import record
from torch import Tensor

from lie_sim.data import make_trajectories
from lie_sim.experiments.symmetry import invariance_error
from lie_sim.groups import group, random_transform
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import LieTransformer, LieTransformerConfig
from lie_sim.state import Particles
from lie_sim.systems import SoftenedCharges, Springs, System
from lie_sim.training import TrainingConfig, dynamics_task, fit_scales, train

DTYPES = {"f64": torch.float64, "f32": torch.float32}
SMALL: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8}
PLANE_GROUPS = [f"{kind}{n}" for kind in "CD" for n in (1, 2, 3, 4, 6)]
SYSTEMS = 32  # systems of an invariance test
TRAINING_STEPS = 20


# --- invariance ---------------------------------------------------------------------------------------------
def invariance_cases() -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """(space dimension, options of the model, symmetries that must hold)."""
    for dim in (1, 2, 3):
        yield dim, {"lifting": "haar", "group": f"T({dim})"}, [f"T({dim})"]
    for dim in (2, 3):
        names = [f"T({dim})", f"SE({dim})", f"O({dim})", f"E({dim})"]
        yield dim, {"num_moments": 1}, names
        yield dim, {"num_moments": 1, "chirality": True}, names[:2]
    for name in (*PLANE_GROUPS, "T", "O", "I"):
        dim = group(name).space_dim
        yield dim, {"lifting": "finite", "group": name}, [f"T({dim})x{name}"]


def system_for(dim: int, options: dict[str, Any]) -> System:
    """Springs in the plane, softened charges elsewhere; few particles where each becomes many points."""
    if dim == 2:
        return Springs()
    count = 5 if options.get("lifting") != "finite" else 2 if options["group"] == "I" else 3
    return SoftenedCharges(num_particles=count, dim=dim)


def perturbed(model: LieTransformer) -> LieTransformer:
    """Noise on all weights: those that begin as zero would hide whatever comes before them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def invariance(dim: int, options: dict[str, Any], symmetries: list[str], steps: int) -> list[dict[str, Any]]:
    """Errors of one model for its symmetries in both float types, before and after training."""
    times = torch.linspace(0.0, 0.04, 5, dtype=torch.float64)
    data = make_trajectories(system_for(dim, options), 2 * SYSTEMS, seed=0, times=times)
    order = group(options["group"]).order if options.get("lifting") == "finite" else 1
    torch.manual_seed(0)
    config = fit_scales(LieTransformerConfig(dim=dim, num_attributes=1, **SMALL, **options), data)
    config = LieTransformerConfig(**{**vars(config), "mean_neighbours": config.mean_neighbours * order})
    model = perturbed(LieTransformer(config))
    trained = copy.deepcopy(model)
    training = TrainingConfig(
        max_steps=steps,
        warmup_steps=1,
        batch_size=max(2, min(16, 64 // order)),
        validation_systems=2,
        validate_every=0,
        dtype="float64",
    )
    train(
        Hamiltonian(trained),
        dynamics_task(training, data[:SYSTEMS], data[SYSTEMS:]),
        training,
        progress=False,
    )
    rows = []
    test = data[SYSTEMS:]
    for when, candidate in (("before", model), ("after", trained)):
        for name, dtype in DTYPES.items():
            cast = copy.deepcopy(candidate).to(dtype)
            q, particles = test.q[:, 0].to(dtype), test.particles.to(dtype=dtype)
            for symmetry in symmetries:
                error = invariance_error(cast, symmetry, q, particles)
                lifting = options.get("lifting", "frame")
                rows.append(
                    {
                        "symmetry": symmetry,
                        "lifting": lifting,
                        "training": when,
                        "dtype": name,
                        "error": error,
                    }
                )
    return rows


# --- finite forces ------------------------------------------------------------------------------------------
FORCE_CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "frames 2-D": (2, {"num_moments": 1, "chirality": True}),
    "frames 3-D": (3, {"num_moments": 1, "chirality": True}),
    "frames 3-D, coulomb": (3, {"radial": "coulomb"}),
    "C4": (2, {"lifting": "finite", "group": "C4"}),
    "D3": (2, {"lifting": "finite", "group": "D3"}),
    "T": (3, {"lifting": "finite", "group": "T", "width": 4, "kernel_hidden": 4}),
    "T(2)": (2, {"lifting": "haar", "group": "T(2)"}),
    "T(3)": (3, {"lifting": "haar", "group": "T(3)"}),
    "SO(2)": (2, {"lifting": "haar", "group": "SO(2)", "centre": True}),
    "SE(2)": (2, {"lifting": "haar", "group": "SE(2)", "num_lifts": 2}),
    "SO(3)": (3, {"lifting": "haar", "group": "SO(3)", "num_lifts": 2, "centre": True}),
    "SE(3)": (3, {"lifting": "haar", "group": "SE(3)", "num_lifts": 2}),
}
POINTS = 6


def shapes(draw: torch.Generator) -> list[Tensor]:
    """Eight configurations in space: one generic, seven degenerate; the plane sees their first two coordinates."""
    random = torch.randn(POINTS, 3, generator=draw, dtype=torch.float64)
    line = random[:, :1] * random[:1]
    plane = random * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    twins = torch.cat([random[:3], random[:1], random[:1]])
    ring = torch.arange(POINTS, dtype=torch.float64) * (2 * math.pi / POINTS)
    hexagon = torch.stack([ring.cos(), ring.sin(), torch.zeros_like(ring)], dim=-1)
    octahedron = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    tetrahedron = torch.tensor([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]]).double()
    symmetric = (hexagon, octahedron, tetrahedron)[int(torch.randint(3, (1,), generator=draw))]
    return [random, line, plane, twins, torch.zeros(3, 3).double(), random[:1], symmetric, hexagon[::3]]


def random_batch(seed: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, masses and mask of the eight configurations; half of the batches are turned and shifted.

    Sizes run from 1e-2 to 1e2; in two batches of three all particles are identical.
    """
    draw = torch.Generator().manual_seed(seed)
    found = shapes(draw)
    q = torch.zeros(len(found), POINTS, 3, dtype=torch.float64)
    mask = torch.zeros(len(found), POINTS, dtype=torch.bool)
    for row, points in enumerate(found):
        q[row, : len(points)], mask[row, : len(points)] = points, True
    q = q[..., :dim] * 10 ** (4 * torch.rand(len(found), 1, 1, generator=draw, dtype=torch.float64) - 2)
    if seed % 2:
        q = random_transform(f"SE({dim})", q, draw)
    masses = torch.ones(len(found), POINTS, dtype=torch.float64)
    if seed % 3 == 0:
        masses = masses + torch.rand(masses.shape, generator=draw, dtype=torch.float64)
    return q, masses, mask


@cache
def random_batches(dim: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first ``count`` batches, each tensor of shape (count, 8, …)."""
    q, masses, mask = zip(*(random_batch(seed, dim) for seed in range(count)), strict=True)
    return torch.stack(q), torch.stack(masses), torch.stack(mask)


def finite_share(dim: int, options: dict[str, Any], dtype: torch.dtype, count: int) -> float:
    """Share of the batches whose forces are all finite; four are computed together."""
    torch.manual_seed(0)
    hamiltonian = Hamiltonian(perturbed(LieTransformer.default(dim=dim, **{**SMALL, **options}))).to(dtype)
    finite = 0
    parts = (tensor.split(4) for tensor in random_batches(dim, count))
    for q, masses, mask in zip(*parts, strict=True):
        particles = Particles(masses=masses.flatten(0, 1).to(dtype), mask=mask.flatten(0, 1))
        with torch.no_grad():
            forces = hamiltonian.force(q.flatten(0, 1).to(dtype), particles)
        finite += int(forces.isfinite().reshape(len(q), -1).all(1).sum())
    return finite / count


# --- logarithm ----------------------------------------------------------------------------------------------
def log_round_trip(name: str, count: int) -> float:
    """Largest |log(exp a) − a| in float32 over rotation angles from 0 to π − 1e-4."""
    chosen, draw = group(name), torch.Generator().manual_seed(0)
    turn = 1 if chosen.space_dim == 2 else 3
    ends = torch.logspace(-8, 0, count, dtype=torch.float64)
    angles = torch.cat(
        [
            torch.zeros(1).double(),
            ends,
            math.pi - 1e-4 - ends,
            torch.linspace(0, math.pi - 1e-4, count).double(),
        ]
    )
    axes = torch.nn.functional.normalize(
        torch.randn(len(angles), turn, generator=draw, dtype=torch.float64), dim=-1
    )
    rest = torch.randn(len(angles), chosen.dim - turn, generator=draw, dtype=torch.float64)
    algebra = torch.cat([angles[:, None] * axes, rest], dim=-1).float()
    return float((chosen.log(chosen.exp(algebra)) - algebra).abs().max())


# --- Haar ---------------------------------------------------------------------------------------------------
def haar_error(name: str, lifts: int, draws: int) -> float:
    """Standard deviation of E(g·q) over group elements and samples, root mean square over inputs."""
    dim = group(name).space_dim
    torch.manual_seed(0)
    options = {"lifting": "haar", "group": name, "num_lifts": lifts, "mean_neighbours": 3.0 * lifts}
    tiny = {"width": 4, "num_heads": 1, "num_layers": 1, "kernel_hidden": 4}
    model = LieTransformer.default(dim=dim, **tiny, **options).double()
    q = torch.randn(4, 3, dim, dtype=torch.float64).repeat_interleave(6, dim=0)
    particles = Particles(masses=torch.ones(q.shape[:2], dtype=torch.float64))
    energies = []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        for seed in range(draws):
            model.backbone.lifting.resample(seed)
            energies.append(model.energy(random_transform(name, q, 1000 + seed), particles).reshape(4, 6))
    return float(torch.cat(energies, 1).var(1).mean().sqrt())


def slope(errors: dict[int, float]) -> float:
    """Least-squares slope of log(error) against log(L)."""
    x, y = (torch.tensor(list(values), dtype=torch.float64).log() for values in (errors, errors.values()))
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small samples; nothing is recorded")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    begin = time.process_time()

    rows = [
        row
        for dim, options, symmetries in invariance_cases()
        for row in invariance(dim, options, symmetries, 2 if quick else TRAINING_STEPS)
    ]
    print(
        f"{'symmetry':14} {'lifting':8} "
        + " ".join(f"{w:>6} {d}" for d in DTYPES for w in ("before", "after"))
    )
    for symmetry, lifting in dict.fromkeys((row["symmetry"], row["lifting"]) for row in rows):
        cells = [
            max(
                row["error"]
                for row in rows
                if (row["symmetry"], row["lifting"], row["training"], row["dtype"])
                == (symmetry, lifting, when, name)
            )
            for name in DTYPES
            for when in ("before", "after")
        ]
        print(f"{symmetry:14} {lifting:8} " + " ".join(f"{cell:10.1e}" for cell in cells))

    control = invariance(2, {"lifting": "finite", "group": "C4"}, ["SE(2)"], 2 if quick else TRAINING_STEPS)
    seen = min(row["error"] for row in control)
    print(f"control: turning a C4 model by any angle changes its energy by {seen:.1e} std(E) or more")

    batches = 20 if quick else 1000
    shares = {
        f"{case} {name}": finite_share(dim, options, dtype, batches)
        for case, (dim, options) in FORCE_CASES.items()
        for name, dtype in DTYPES.items()
    }
    print(f"\nshare of {batches} batches with finite forces")
    for case in FORCE_CASES:
        print(f"{case:20} " + " ".join(f"{name} {shares[f'{case} {name}']:7.2%}" for name in DTYPES))

    trips = {name: log_round_trip(name, 200 if quick else 20_000) for name in ("SO(3)", "SE(3)", "SE(2)")}
    print("\nlog round trip, f32   " + "  ".join(f"{name} {error:.1e}" for name, error in trips.items()))

    lifts, draws = ((4, 16), 6) if quick else ((8, 16, 32), 24)
    haar = {name: {L: haar_error(name, L, draws) for L in lifts} for name in ("SE(2)", "SO(3)", "SE(3)")}
    slopes = {name: slope(errors) for name, errors in haar.items()}
    print("Haar slope            " + "  ".join(f"{name} {value:+.3f}" for name, value in slopes.items()))

    figures = {
        f"invariance_{name}_max": max(row["error"] for row in rows if row["dtype"] == name) for name in DTYPES
    }
    figures["control_broken_symmetry"] = seen
    figures["finite_force_share"] = min(shares.values())
    figures["log_roundtrip_f32_max"] = max(trips.values())
    figures["haar_error_slope"] = sum(slopes.values()) / len(slopes)
    figures["cpu_s"] = time.process_time() - begin
    print()
    for key, value in figures.items():
        print(f"{key:24} {value:.3g}")
    if not quick:
        details = {
            "invariance": rows,
            "finite_force_share": shares,
            "log_roundtrip_f32": trips,
            "haar_error": haar,
        }
        print(record("symmetry", figures, threads=1, details=details))


if __name__ == "__main__":
    main()
