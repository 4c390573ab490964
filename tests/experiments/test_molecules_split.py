"""The split of a file of structures: drawn by a seed, kept by the run, never a test on training data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lie_sim.data.molecules import Molecules
from lie_sim.errors import ConfigError, DataError
from lie_sim.experiments import MoleculesConfig
from lie_sim.experiments.molecules_split import SPLIT, Split, drawn, kept, split


def structures(count: int = 40) -> Molecules:
    energies = np.random.default_rng(1).normal(size=count)
    return Molecules(
        numbers=np.ones(count, dtype=np.int64),
        positions=np.zeros((count, 3)),
        offsets=np.arange(count + 1),
        cells=np.zeros((count, 3, 3)),
        pbc=np.zeros((count, 3), dtype=bool),
        values={"energy": energies},
    )


def test_splits_are_disjoint_seeded_and_nested() -> None:
    whole = split(40, MoleculesConfig())
    assert sorted(np.concatenate(list(whole.values()))) == list(range(40))
    sizes = {"num_validation": 4, "num_test": 4}
    small, large = (split(40, MoleculesConfig(num_train=n, **sizes)) for n in (10, 30))
    assert (large["train"][:10] == small["train"]).all()
    assert (large["test"] == small["test"]).all()
    assert (split(40, MoleculesConfig(data_seed=1))["test"] != whole["test"]).any()
    with pytest.raises(ConfigError, match="40 structures are too few for 36 to train"):
        split(40, MoleculesConfig(num_train=36, **sizes))


def test_kept_split_reads_back(tmp_path) -> None:
    data = structures()
    one = drawn(data, MoleculesConfig(data_seed=3))
    one.save(tmp_path)
    again = Split.load(tmp_path)
    assert again == one
    assert kept(again, data, source="file") is again
    assert json.loads((tmp_path / SPLIT).read_text())["seed"] == 3
    assert Split.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("count", [1, 5, 20, 26])
def test_other_test_sizes_never_reach_the_training_structures(count: int) -> None:
    one = drawn(structures(), MoleculesConfig(num_train=10, num_validation=4, num_test=5))
    other = one.with_test(count)
    assert len(other.test) == len(set(other.test)) == count
    assert not set(other.test) & {*one.train, *one.validation}
    assert other.test[:5] == one.test[:count]
    # Drawing anew with another number of test structures does reach them: hence the file.
    anew = drawn(structures(), MoleculesConfig(num_train=10, num_validation=4, num_test=20))
    assert set(anew.test) & set(one.train)


def test_other_data_and_damaged_files_are_refused(tmp_path) -> None:
    data = structures()
    one = drawn(data, MoleculesConfig(num_train=10))
    with pytest.raises(ConfigError, match="num_test is 27, but only 26 of 40"):
        one.with_test(27)
    changed = replace(data, values={"energy": data.values["energy"] + 1e-9})
    with pytest.raises(DataError, match=r"file\.xyz is not what this run was trained on"):
        kept(one, changed, source="file.xyz")
    for content, message in (
        ("{", "is damaged"),
        (json.dumps({"format": "lie_sim split", "version": 9}), "another kind or version"),
        ("[]", "is damaged"),
    ):
        (tmp_path / SPLIT).write_text(content)
        with pytest.raises(DataError, match=message):
            Split.load(tmp_path)
    for wrong, message in ((one.train[0], "in it twice"), (40, "not from 0 to 39")):
        replace(one, test=[wrong]).save(tmp_path)
        with pytest.raises(DataError, match=message):
            Split.load(tmp_path)
