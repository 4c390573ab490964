"""Placeholder."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.integrators: write 'import lie_sim.integrators'")
