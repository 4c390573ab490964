"""What a step of one contestant costs, in a process of its own: called by integrators.py, prints JSON.

Right-hand sides: "null" (constants: the solver alone), "springs" (closed form, six particles in the plane) and
"lietransformer" (forces of a learned potential, by autograd). float64, one thread, no gradients kept. Every
contestant gets the state in the form that suits it: the pair (q, p) or one tensor. Steps are fixed; an adaptive method
has its step pinned. Per row: microseconds of process time per step, and the force evaluations of a step, counted.

The bare force of a compiled rival is that of a compiled loop over forces.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

STEP = 1e-3
REPEATS = 3
Run = Callable[[int], Any]
"""Does so many steps."""
Rows = list[dict[str, Any]]


class NullDynamics:
    """Constants for force and velocity."""

    def __init__(self, like: Any) -> None:
        self.rate = 0 * like

    def force(self, q: Any) -> Any:
        return self.rate

    def velocity(self, p: Any) -> Any:
        return self.rate

    def vector_field(self, t: Any, state: Any) -> Any:
        return self.rate, self.rate


class Counter:
    """Counts the forces of dynamics from now on; they stay of their class, which decides what is checked of them."""

    def __init__(self, dynamics: Any) -> None:
        self.calls, force = 0, dynamics.force

        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.calls += 1
            return force(*arguments, **keywords)

        self.dynamics = copy.copy(dynamics)
        self.dynamics.force = counted


def microseconds(run: Run, seconds: float, *, extra: float = 0.0, steps: int = 2) -> float:
    """Median process time per step of runs that take at least a quarter of ``seconds``.

    Args:
        run: what is measured.
        seconds: of all repeats together, about.
        extra: microseconds that a run costs beyond its steps; taken off.
        steps: of the first run.
    """
    spent = 0.0
    while spent < seconds / 4:
        run(steps)  # warm-up, and compilation
        begin = time.process_time()
        run(steps)
        spent = time.process_time() - begin
        if spent < seconds / 4:
            steps *= min(16, max(2, int(seconds / 4 / max(spent, 1e-6)) + 1))
    costs = []
    for _ in range(REPEATS):
        begin = time.process_time()
        run(steps)
        costs.append(((time.process_time() - begin) * 1e6 - extra) / steps)
    return statistics.median(costs)


def repeated(function: Callable[[], Any]) -> Run:
    def run(steps: int) -> None:
        for _ in range(steps):
            function()

    return run


def torch_dynamics(problem: str, batch: int, model: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Dynamics, q and p of shape (B, 6, 2)."""
    import torch

    from lie_sim.hamiltonian import Hamiltonian
    from lie_sim.integrators import SystemDynamics
    from lie_sim.models import LieTransformer, LieTransformerConfig
    from lie_sim.systems import Springs

    state, particles = Springs().sample(batch, generator=torch.Generator().manual_seed(0))
    dynamics: Any = NullDynamics(state.q)
    if problem == "springs":
        dynamics = SystemDynamics(Springs(), particles)
    elif problem == "lietransformer":
        torch.manual_seed(0)
        dynamics = Hamiltonian(LieTransformer(LieTransformerConfig(**model))).double().bind(particles)
    return dynamics, state.q, state.p


def own(dynamics: Any, q: Any, p: Any) -> Iterator[tuple[str, Run]]:
    """Our loop, bare, with every state saved, and called through torchdiffeq."""
    import torch
    import torchdiffeq

    from lie_sim.integrators import advance, integrate, register_torchdiffeq

    register_torchdiffeq()
    run = {"step_size": STEP, "method": "leapfrog"}

    def through_torchdiffeq(steps: int) -> None:
        t = torch.tensor([0.0, steps * STEP], dtype=torch.float64)
        field = dynamics.vector_field
        torchdiffeq.odeint(field, (q, p), t, method="leapfrog", options={"step_size": STEP})

    yield "leapfrog", lambda steps: advance(dynamics, q, p, num_steps=steps, **run)
    yield "leapfrog, every state saved", lambda steps: integrate(dynamics, q, p, num_steps=steps, **run)
    yield "leapfrog through torchdiffeq", through_torchdiffeq


def own_compiled(dynamics: Any, q: Any, p: Any) -> Iterator[tuple[str, Run]]:
    """Blocks of compiled steps; beside them the eager loop, for the ratio."""
    from lie_sim.integrators import advance, get_method
    from lie_sim.integrators.compiled import Compiled

    leapfrog = get_method("leapfrog")
    block = Compiled(leapfrog, block=8)
    yield "leapfrog", lambda steps: advance(dynamics, q, p, step_size=STEP, num_steps=steps)
    yield (
        "leapfrog, compiled",
        lambda steps: advance(dynamics, q, p, step_size=STEP, num_steps=8 * -(-steps // 8), method=block),
    )


def flat_field(dynamics: Any) -> Callable[[Any, Any], Any]:
    """dy/dt of y = (q, p) stacked in front, one tensor."""
    import torch

    if isinstance(dynamics, NullDynamics):
        rate = torch.stack([dynamics.rate, dynamics.rate])
        return lambda t, y: rate
    return lambda t, y: torch.stack(dynamics.vector_field(t, y.unbind()))


def torchdiffeq(dynamics: Any, q: Any, p: Any) -> Iterator[tuple[str, Run]]:
    """Its own methods on one tensor."""
    import torch
    from torchdiffeq import odeint

    y, field = torch.stack([q, p]), flat_field(dynamics)
    pinned = {"first_step": STEP, "min_step": STEP, "max_step": STEP}
    for method in ("midpoint", "rk4", "dopri5"):
        options = pinned if method == "dopri5" else {"step_size": STEP}

        def run(steps: int, method: str = method, options: dict[str, float] = options) -> None:
            t = torch.tensor([0.0, steps * STEP], dtype=torch.float64)
            odeint(field, y, t, method=method, options=options)

        yield method, run


def torchode(dynamics: Any, q: Any, p: Any) -> Iterator[tuple[str, Run]]:
    """Its methods with a fixed step, states of shape (B, 24)."""
    import torch
    import torchode as to

    batch, field = len(q), flat_field(dynamics)
    y0 = torch.cat([q.flatten(1), p.flatten(1)], 1)
    rate = torch.zeros_like(y0)

    def rows(t: Any, y: Any) -> Any:
        if isinstance(dynamics, NullDynamics):
            return rate
        return field(t, y.reshape(batch, 2, *q.shape[1:]).transpose(0, 1)).transpose(0, 1).flatten(1)

    for method in ("Dopri5", "Tsit5"):
        term = to.ODETerm(rows)
        solver = to.AutoDiffAdjoint(getattr(to, method)(term=term), to.FixedStepController())

        def run(steps: int, solver: Any = solver) -> None:
            times = torch.tensor([[0.0, steps * STEP]], dtype=torch.float64).expand(batch, 2)
            problem = to.InitialValueProblem(y0=y0, t_start=times[:, 0], t_end=times[:, 1])
            solver.solve(problem, dt0=torch.full((batch,), STEP, dtype=torch.float64))

        yield method.lower(), run


class JaxSprings:
    """The force of the springs in closed form."""

    def __init__(self, masses: Any, k: Any) -> None:
        self.masses, self.k = masses[..., None], k

    def force(self, q: Any) -> Any:
        k = self.k
        return -2 * k * (k.sum(1, keepdims=True) * q - (k * q).sum(1, keepdims=True))

    def velocity(self, p: Any) -> Any:
        return p / self.masses


def jax_dynamics(problem: str, batch: int) -> tuple[Any, Any, Any, Any]:
    """Dynamics, q, p, and the masses."""
    import jax
    import torch

    from lie_sim.systems import Springs

    jax.config.update("jax_enable_x64", True)
    state, particles = Springs().sample(batch, generator=torch.Generator().manual_seed(0))
    assert particles.attributes is not None
    q, p, masses, k = (
        jax.numpy.asarray(x.numpy()) for x in (state.q, state.p, particles.masses, particles.attributes)
    )
    return (JaxSprings(masses, k) if problem == "springs" else NullDynamics(q)), q, p, masses


def compiled_force(dynamics: Any, q: Any) -> Run:
    import jax

    @jax.jit
    def loop(steps: int, x: Any) -> Any:
        return jax.lax.fori_loop(0, steps, lambda _, x: x + 1e-9 * dynamics.force(x), x)

    return lambda steps: loop(steps, q).block_until_ready()


def diffrax(dynamics: Any, q: Any, p: Any, masses: Any) -> Iterator[tuple[str, Run]]:
    """Its methods with a constant step, the whole solution compiled."""
    import diffrax
    import jax

    field = diffrax.ODETerm(lambda t, y, args: (dynamics.velocity(y[1]), dynamics.force(y[0])))
    halves = (
        diffrax.ODETerm(lambda t, p, args: dynamics.velocity(p)),
        diffrax.ODETerm(lambda t, q, args: dynamics.force(q)),
    )
    for name, solver, terms in (
        ("leapfrog_midpoint", diffrax.LeapfrogMidpoint(), field),
        ("semi_implicit_euler", diffrax.SemiImplicitEuler(), halves),
        ("tsit5", diffrax.Tsit5(), field),
    ):

        @jax.jit
        def solve(end: float, y: Any, terms: Any = terms, solver: Any = solver) -> Any:
            return diffrax.diffeqsolve(
                terms, solver, 0.0, end, STEP, y, saveat=diffrax.SaveAt(t1=True), max_steps=2**24
            ).ys

        yield name, lambda steps, solve=solve: jax.block_until_ready(solve(steps * STEP, (q, p)))


def jax_md(dynamics: Any, q: Any, p: Any, masses: Any) -> Iterator[tuple[str, Run]]:
    """Velocity Verlet, the loop compiled; the batch as one system of B·6 particles that do not all interact."""
    import jax
    from jax_md import simulate, space

    def force(x: Any, **unused: Any) -> Any:
        return dynamics.force(x.reshape(q.shape)).reshape(x.shape)

    _, shift = space.free()
    init, apply = simulate.nve(force, shift, dt=STEP)
    flat = (-1, q.shape[-1])
    state = init(
        jax.random.PRNGKey(0), q.reshape(flat), 0.0, mass=masses.reshape(-1), momenta=p.reshape(flat)
    )
    loop = jax.jit(lambda steps, state: jax.lax.fori_loop(0, steps, lambda _, s: apply(s), state))
    yield "velocity_verlet", lambda steps: jax.block_until_ready(loop(steps, state))


TORCH = {"own": own, "own_compiled": own_compiled, "torchdiffeq": torchdiffeq, "torchode": torchode}
JAX: dict[str, Any] = {"diffrax": diffrax, "jax_md": jax_md}
JAX_FORCES = {"leapfrog_midpoint": 1, "semi_implicit_euler": 1, "tsit5": 6, "velocity_verlet": 1}


def counted_forces(contestant: str, dynamics: Any, q: Any, p: Any) -> dict[str, tuple[float, float]]:
    """Forces of a step, and those of a run beyond its steps, by method.

    Compiled blocks do not call Python for each force; a run of theirs begins with one.
    """
    if contestant == "own_compiled":
        return {"leapfrog": (1, 1), "leapfrog, compiled": (1, 1)}
    found = {}
    counted = Counter(dynamics)
    for method, run in TORCH[contestant](counted.dynamics, q, p):
        calls = []
        for steps in (4, 8):
            before = counted.calls
            run(steps)
            calls.append(counted.calls - before)
        per_step = (calls[1] - calls[0]) / 4
        found[method] = per_step, calls[0] - 4 * per_step
    return found


def torch_rows(contestant: str, problem: str, batch: int, options: argparse.Namespace) -> Rows:
    import torch

    torch.set_num_threads(1)
    dynamics, q, p = torch_dynamics(problem, batch, json.loads(options.model))
    rows = []
    with torch.no_grad():
        counts = counted_forces(contestant, dynamics, q, p)
        bare = repeated(lambda: dynamics.force(q))
        force = microseconds(bare, options.seconds)
        for method, run in TORCH[contestant](dynamics, q, p):
            forces, extra = counts[method]
            smallest = 8 if contestant == "own_compiled" else 2
            cost = microseconds(run, options.seconds, extra=extra * force, steps=smallest)
            before, force = force, microseconds(bare, options.seconds)
            both = (before + force) / 2  # the machine may have changed its speed in between
            rows.append({"method": method, "forces": forces, "us": cost, "force_us": both})
    return [row | {"problem": problem, "batch": batch} for row in rows]


def jax_rows(contestant: str, problem: str, batch: int, options: argparse.Namespace) -> Rows:
    dynamics, q, p, masses = jax_dynamics(problem, batch)
    force = microseconds(compiled_force(dynamics, q), options.seconds)
    return [
        {
            "method": method,
            "forces": JAX_FORCES[method],
            "us": microseconds(run, options.seconds),
            "problem": problem,
            "batch": batch,
            "force_us": force,
        }
        for method, run in JAX[contestant](dynamics, q, p, masses)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contestant", choices=[*TORCH, *JAX])
    parser.add_argument("--problems", nargs="+", default=["null", "springs"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=0.2, help="of one measurement")
    parser.add_argument("--model", default="{}", help="options of the LieTransformer, JSON")
    options = parser.parse_args()
    try:
        for name in {"own": (), "own_compiled": ()}.get(options.contestant, (options.contestant,)):
            importlib.import_module(name)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    measure = jax_rows if options.contestant in JAX else torch_rows
    rows = [
        row
        for problem in options.problems
        for batch in options.batches
        for row in measure(options.contestant, problem, batch, options)
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
