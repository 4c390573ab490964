"""The command line ``lie-sim``: options from the configuration dataclasses, errors in one line."""
