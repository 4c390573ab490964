"""``python -m lie_sim`` is the command ``lie-sim``."""

from lie_sim.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
