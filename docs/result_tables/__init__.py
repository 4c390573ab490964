"""Tables of the results page, a module for each family of benchmarks; see ``docs/tables.py``."""
