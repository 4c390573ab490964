"""Dataset folders: independent splits, the same bytes every time, and incomplete ones refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lie_sim.data import Dataset, DatasetConfig, generate_dataset, generate_split, load_dataset, save_dataset
from lie_sim.data.dataset import split_seed
from lie_sim.errors import ConfigError, DataError

CONFIG = DatasetConfig(train=20, val=6, test=7, num_times=11, end_time=0.1, seed=4)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate_dataset(CONFIG)


@pytest.fixture
def folder(dataset: Dataset, tmp_path: Path) -> Path:
    save_dataset(dataset, tmp_path / "springs")
    return tmp_path / "springs"


def test_sizes_and_grid(dataset: Dataset) -> None:
    assert [len(split) for split in dataset.splits().values()] == [20, 6, 7]
    assert dataset.train.dt == pytest.approx(0.01)
    assert dataset.val.metadata["split"] == "val"


def test_splits_share_no_system(dataset: Dataset) -> None:
    masses = torch.cat([split.particles.masses for split in dataset.splits().values()])
    assert len(masses.unique(dim=0)) == 33
    seeds = {split_seed(seed, name) for seed in range(50) for name in ("train", "val", "test")}
    assert len(seeds) == 150


def test_a_larger_training_set_contains_the_smaller_and_leaves_the_rest(dataset: Dataset) -> None:
    larger = replace(CONFIG, train=30)
    assert torch.equal(generate_split(larger, "train").state(0).q[:20], dataset.train.state(0).q)
    assert generate_split(larger, "test").digest() == dataset.test.digest()
    assert generate_split(replace(CONFIG, seed=5), "test").digest() != dataset.test.digest()


def test_folder_round_trip(dataset: Dataset, folder: Path) -> None:
    loaded = load_dataset(folder)
    assert loaded.config == CONFIG
    assert {n: s.digest() for n, s in loaded.splits().items()} == {
        n: s.digest() for n, s in dataset.splits().items()
    }
    assert sorted(p.name for p in folder.iterdir()) == [
        "dataset.json", "test.safetensors", "train.safetensors", "val.safetensors",
    ]  # fmt: skip


def test_same_configuration_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_dataset(generate_dataset(CONFIG), tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_exchanged_split_is_noticed(folder: Path) -> None:
    (folder / "val.safetensors").replace(folder / "test.safetensors")
    with pytest.raises(DataError, match="no trajectories file"):
        load_dataset(folder)
    (folder / "val.safetensors").write_bytes((folder / "test.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"test\.safetensors is not the file that dataset\.json declares"):
        load_dataset(folder)


def test_interrupted_or_damaged_folders_are_refused(folder: Path) -> None:
    manifest = folder / "dataset.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format": 7}))
    with pytest.raises(DataError, match="has format 7"):
        load_dataset(folder)
    manifest.write_text(json.dumps({**content, "config": {"sytem": "springs"}}))
    with pytest.raises(DataError, match="unknown settings sytem"):
        load_dataset(folder)
    manifest.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        load_dataset(folder)
    manifest.unlink()
    with pytest.raises(DataError, match=r"no dataset\.json .* interrupted"):
        load_dataset(folder)


def test_interrupted_rewrite_does_not_pass_for_the_old_dataset(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lie_sim.data.dataset.write_atomically", fail)
    with pytest.raises(KeyboardInterrupt):
        save_dataset(dataset, folder)
    with pytest.raises(DataError, match=r"no dataset\.json"):
        load_dataset(folder)


def test_chunks_are_the_same_every_time_and_differ_between_splits(dataset: Dataset) -> None:
    chunks = dataset.chunks(5)
    assert chunks.train.q.shape[1] == 5
    assert chunks.test.digest() == dataset.chunks(5).test.digest()


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ConfigError, match="train must be at least 1"):
        DatasetConfig(train=0)
    with pytest.raises(ConfigError, match="num_times must be at least 2"):
        DatasetConfig(num_times=1)
    with pytest.raises(ConfigError, match="end_time must be positive"):
        DatasetConfig(end_time=-1.0)
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        generate_split(CONFIG, "valid")
    with pytest.raises(ValueError, match="springs has no option particles"):
        DatasetConfig(options={"particles": 3}).build()


def test_grid_follows_the_system_unless_told_otherwise() -> None:
    assert len(DatasetConfig().times()) == 500
    assert len(DatasetConfig(system="gravity").times()) == 200
    longer = DatasetConfig(end_time=10.0).times()
    assert (len(longer), float(longer[-1])) == (500, 10.0)
