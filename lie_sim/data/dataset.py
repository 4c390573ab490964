"""Train, validation and test trajectories from one configuration, and the folder they live in.

A dataset folder holds ``train.safetensors``, ``val.safetensors``, ``test.safetensors`` and
``dataset.json``; the last is written last and carries the configuration and the digest of every split, so a
folder is complete exactly when it can be loaded.

Each split has its own seed, derived from the configuration's seed and the split's name. The same
configuration therefore gives the same bytes, and a larger training set leaves validation and test as they
were.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.data.trajectories import Trajectories, make_trajectories
from lie_sim.errors import ConfigError, DataError
from lie_sim.files import write_atomically
from lie_sim.systems.base import System, build_system

SPLITS = ("train", "val", "test")
_MANIFEST = "dataset.json"
_FORMAT = 1


@dataclass(frozen=True)
class DatasetConfig:
    """What to generate; the defaults are the springs benchmark at 3000 training systems.

    Args:
        system: name of a ground-truth system.
        options: its options, such as ``{"num_particles": 6, "dim": 2}``; missing ones take their default.
        train: number of training systems.
        val: number of validation systems.
        test: number of test systems.
        num_times: points of each trajectory; None takes the system's own grid.
        end_time: last time of the grid, which starts at 0; None takes the system's own.
        seed: of everything.

    Example:
        >>> config = DatasetConfig(train=10, val=2, test=2, num_times=11, end_time=0.1)
        >>> {name: len(split) for name, split in generate_dataset(config).splits().items()}
        {'train': 10, 'val': 2, 'test': 2}
    """

    system: str = "springs"
    options: dict[str, Any] = field(default_factory=dict)
    train: int = 3000
    val: int = 2000
    test: int = 2000
    num_times: int | None = None
    end_time: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in SPLITS:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1 system, got {getattr(self, name)}")
        if self.num_times is not None and self.num_times < 2:
            raise ConfigError(f"num_times must be at least 2, got {self.num_times}")
        if self.end_time is not None and self.end_time <= 0:
            raise ConfigError(f"end_time must be positive, got {self.end_time}")

    def build(self) -> System:
        """The ground-truth system."""
        return build_system(self.system, **self.options)

    def times(self) -> Float[Tensor, " T"]:
        """The grid of times, shape (T,), float64."""
        own = self.build().default_times()
        if self.num_times is None and self.end_time is None:
            return own
        end = float(own[-1]) if self.end_time is None else self.end_time
        return torch.linspace(0.0, end, self.num_times or len(own), dtype=torch.float64)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint sets of trajectories and the configuration that makes them again."""

    config: DatasetConfig
    train: Trajectories
    val: Trajectories
    test: Trajectories

    def splits(self) -> dict[str, Trajectories]:
        """The sets by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def chunks(self, length: int) -> Dataset:
        """One random aligned chunk of each trajectory, the same every time (see ``Trajectories.chunks``)."""
        cut = {
            name: split.chunks(length, generator=_generator(self.config.seed, f"{name}/chunks"))
            for name, split in self.splits().items()
        }
        return Dataset(self.config, **cut)


def split_seed(seed: int, name: str) -> int:
    """A seed for one purpose, from the seed of the whole: 32 bits of SHA-256.

    Example:
        >>> split_seed(0, "train") == split_seed(0, "test")
        False
    """
    return int.from_bytes(hashlib.sha256(f"lie_sim/{seed}/{name}".encode()).digest()[:4], "big")


def generate_split(config: DatasetConfig, name: str) -> Trajectories:
    """One of the splits ``train``, ``val``, ``test``."""
    if name not in SPLITS:
        raise ValueError(f"unknown split {name!r}; choose one of {', '.join(SPLITS)}")
    data = make_trajectories(
        config.build(), getattr(config, name), seed=split_seed(config.seed, name), times=config.times()
    )
    return replace(data, metadata={**data.metadata, "split": name, "lie_sim": _version()})


def generate_dataset(config: DatasetConfig) -> Dataset:
    """All splits, in memory (1 GB for 10,000 spring systems of 500 points)."""
    return Dataset(config, **{name: generate_split(config, name) for name in SPLITS})


def save_dataset(dataset: Dataset, folder: str | Path) -> None:
    """Write the folder; ``dataset.json`` comes last and only when all splits are on disk."""
    root = Path(folder)
    (root / _MANIFEST).unlink(missing_ok=True)
    splits = {
        name: {"systems": len(split), "digest": split.save(root / f"{name}.safetensors")}
        for name, split in dataset.splits().items()
    }
    manifest = {"format": _FORMAT, "lie_sim": _version(), "config": asdict(dataset.config), "splits": splits}
    write_atomically(root / _MANIFEST, json.dumps(manifest, indent=2).encode())


def load_dataset(folder: str | Path) -> Dataset:
    """Read what :func:`save_dataset` wrote.

    Raises:
        lie_sim.errors.DataError: the folder is incomplete, or a file is not the one the manifest declares.
    """
    root = Path(folder)
    manifest = _read_manifest(root / _MANIFEST)
    loaded = {name: Trajectories.load(root / f"{name}.safetensors") for name in SPLITS}
    for name, split in loaded.items():
        declared = manifest["splits"][name]["digest"]
        if split.digest() != declared:
            raise DataError(
                f"{root / name}.safetensors is not the file that {_MANIFEST} declares: generate it again"
            )
    return Dataset(_read_config(manifest["config"]), **loaded)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            f"no {_MANIFEST} in {path.parent}: not a dataset, or one whose writing was interrupted"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if manifest["format"] != _FORMAT:
            raise DataError(
                f"{path} has format {manifest['format']}, this version of lie_sim reads {_FORMAT}"
            )
        _ = manifest["config"], [manifest["splits"][name]["digest"] for name in SPLITS]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): generate the dataset again") from error
    return manifest


def _read_config(values: dict[str, Any]) -> DatasetConfig:
    unknown = sorted(set(values) - {f.name for f in fields(DatasetConfig)})
    if unknown:
        raise DataError(f"{_MANIFEST} has unknown settings {', '.join(unknown)}: written by another version?")
    return DatasetConfig(**values)


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(split_seed(seed, name))


def _version() -> str:
    try:
        return version("lie_sim")
    except PackageNotFoundError:
        return "source"
