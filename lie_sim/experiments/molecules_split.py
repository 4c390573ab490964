"""Which structures of a file are for training, validation and test, drawn by a seed and kept with the run.

A run keeps its split in ``split.json``: the places of the structures in the file, the seed, and the digest of the data
they were drawn from. An evaluation reads it, so that a model is never tested on what it was trained on, whatever
``num_test`` is by then and however splits are drawn by then; a file that has changed since is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from lie_sim.data.molecules import Molecules
from lie_sim.data.storage import tensors_digest
from lie_sim.errors import ConfigError, DataError
from lie_sim.files import write_atomically

SPLIT = "split.json"
PARTS = ("train", "validation", "test")
_FORMAT = "lie_sim split"
_VERSION = 1


@runtime_checkable
class SplitOptions(Protocol):
    """The options that a split depends on; 0 means eight, one and one in ten."""

    @property
    def num_train(self) -> int: ...  # noqa: D102
    @property
    def num_validation(self) -> int: ...  # noqa: D102
    @property
    def num_test(self) -> int: ...  # noqa: D102
    @property
    def data_seed(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Split:
    """Places in a file of structures.

    Args:
        train: of the training structures.
        validation: of those that choose the best weights.
        test: of those that judge them.
        structures: number of structures in the file.
        seed: by which the places were drawn.
        digest: of the data.

    Example:
        >>> Split(train=[2, 0], validation=[3], test=[1], structures=5).with_test(2).test
        [1, 4]
    """

    train: list[int]
    validation: list[int]
    test: list[int]
    structures: int
    seed: int = 0
    digest: str = ""

    def with_test(self, count: int) -> Split:
        """The same with so many test structures: the first ones, or further ones that nothing was trained on.

        Args:
            count: 0 for the test structures as they are.

        Raises:
            ConfigError: there are not so many that were not trained on.
        """
        taken = {*self.train, *self.validation, *self.test}
        free = self.test + [place for place in range(self.structures) if place not in taken]
        if count > len(free):
            raise ConfigError(
                f"num_test is {count}, but only {len(free)} of {self.structures} structures took no part in training"
            )
        return replace(self, test=free[:count]) if count else self

    def places(self) -> dict[str, np.ndarray]:
        """Places by the name of the part."""
        return {name: np.array(getattr(self, name), dtype=np.int64) for name in PARTS}

    def save(self, folder: Path) -> None:
        """Write ``split.json``, a line for each entry."""
        content = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
        write_atomically(folder / SPLIT, f"{{\n{lines}\n}}\n".encode())

    @classmethod
    def load(cls, folder: Path) -> Split | None:
        """Read what :meth:`save` wrote; None where a run has kept no split.

        Raises:
            DataError: the file is damaged.
        """
        path = folder / SPLIT
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_bytes())
            if (content.pop("format"), content.pop("version")) != (_FORMAT, _VERSION):
                raise ValueError("it is of another kind or version")
            found = cls(**content)
            found.check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({error}): restore it, or remove it to draw the split anew"
            ) from error
        return found

    def check(self) -> None:
        """Refuse places that do not exist, or that are used twice.

        Raises:
            ValueError: it says which.
        """
        places = [place for name in PARTS for place in getattr(self, name)]
        if len(set(places)) != len(places):
            raise ValueError("a structure is in it twice")
        if any(not isinstance(place, int) or not 0 <= place < self.structures for place in places):
            raise ValueError(f"a place is not from 0 to {self.structures - 1}")


def drawn(molecules: Molecules, options: SplitOptions) -> Split:
    """A split of these data by the options.

    Raises:
        ConfigError: there are too few structures.
    """
    places = {name: part.tolist() for name, part in split(len(molecules), options).items()}
    digest = data_digest(molecules)
    return Split(**places, structures=len(molecules), seed=options.data_seed, digest=digest)


def kept(saved: Split, molecules: Molecules, *, source: str) -> Split:
    """A saved split, if it is of these data.

    Raises:
        DataError: the data are others than those it was drawn from.
    """
    if (saved.structures, saved.digest) != (len(molecules), data_digest(molecules)):
        raise DataError(
            f"{source} is not what this run was trained on: it had {saved.structures} structures with the digest "
            f"{saved.digest[:12]}…, and has {len(molecules)} with {data_digest(molecules)[:12]}…. "
            "Restore the file, or train a new run on the new one"
        )
    return saved


def data_digest(molecules: Molecules) -> str:
    """SHA-256 of structures and reference values."""
    arrays: Mapping[str, np.ndarray] = {
        **{name: getattr(molecules, name) for name in ("numbers", "positions", "offsets", "cells", "pbc")},
        **{f"values.{name}": value for name, value in molecules.values.items()},
    }
    return tensors_digest(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    )


def split(count: int, options: SplitOptions) -> dict[str, np.ndarray]:
    """Places of training, validation and test structures, drawn by the seed.

    A smaller training set is the beginning of a larger one as long as the others keep their size.

    Raises:
        ConfigError: there are too few structures.

    Example:
        >>> from lie_sim.experiments import MoleculesConfig
        >>> {name: len(part) for name, part in split(100, MoleculesConfig()).items()}
        {'train': 80, 'validation': 10, 'test': 10}
    """
    order = np.random.default_rng(options.data_seed).permutation(count)
    validation = options.num_validation or count // 10
    train = options.num_train or count * 8 // 10
    test = options.num_test or count - train - validation
    if min(train, validation, test) < 1 or train + validation + test > count:
        raise ConfigError(
            f"{count} structures are too few for {train} to train, {validation} to validate and {test} to test: "
            "set num_train, num_validation and num_test"
        )
    return {
        "train": order[validation + test :][:train],
        "validation": order[:validation],
        "test": order[validation : validation + test],
    }
