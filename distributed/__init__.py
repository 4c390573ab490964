"""Placeholder."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.distributed: write 'import lie_sim.distributed'")
