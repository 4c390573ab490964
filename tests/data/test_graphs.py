"""The reader of graph sets: what it reads, what it refuses, parts by class."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.data.graphs import TU_FOLDER, fold_split, read_tu, stratified_folds
from lie_sim.errors import DataError

SIZES = {"NCI1": (4110, 37, [2053, 2057]), "PROTEINS": (1113, 3, [663, 450]), "MUTAG": (188, 7, [63, 125])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two graphs: a path of three nodes, with a loop and an edge named twice, and a pair."""
    place = tmp_path / "TINY"
    place.mkdir()
    edges = "2, 1\n1,2\n2,3\n3, 2\n2,3\n1,1\n4,5\n5,4\n\n"
    files = {"A": edges, "graph_indicator": "1\n1\n1\n2\n2\n", "graph_labels": "1\n-1\n"}
    for name, text in (files | {"node_labels": "0\n3\n0\n3\n7\n"}).items():
        (place / f"TINY_{name}.txt").write_text(text)
    return tmp_path


def test_a_set_is_read_as_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TU_FOLDER, str(folder))
    data = read_tu("TINY")
    assert (len(data), data.num_features, data.num_classes, data.name) == (2, 3, 2, "TINY")
    assert data.labels.tolist() == [1, 0]
    assert data.graphs.x.argmax(1).tolist() == [0, 1, 0, 1, 2]
    assert data.graphs.neighbours.tolist() == [1, 0, 2, 1, 4, 3]
    assert data.graphs.degrees.tolist() == [1, 2, 1, 1, 1]


def test_without_kinds_of_nodes_each_is_a_1(folder: Path) -> None:
    (folder / "TINY" / "TINY_node_labels.txt").unlink()
    assert read_tu("TINY", folder).graphs.x.tolist() == [[1.0]] * 5


def test_selected_graphs_come_in_the_order_asked_for(folder: Path) -> None:
    data = read_tu("TINY", folder)
    chosen = data.select(torch.tensor([1, 0, 1]))
    assert chosen.sizes.tolist() == [2, 3, 2]
    assert chosen.neighbours.tolist() == [1, 0, 3, 2, 4, 3, 6, 5]
    assert torch.equal(chosen.x[2:5], data.graphs.x[:3])
    weighed = replace(data, graphs=replace(data.graphs, weights=torch.arange(5.0)))
    assert weighed.select(torch.tensor([1, 0])).weights.tolist() == [3.0, 4.0, 0.0, 1.0, 2.0]


BROKEN = {
    "a missing file": ("graph_labels", None, "cannot read"),
    "an empty set": ("graph_labels", "", "holds no graph"),
    "a word": ("A", "1,2\n2,one\n", "other than whole numbers"),
    "a column too many": ("A", "1,2\n2,1,1\n", "line 2: expected 2 numbers"),
    "an unknown node": ("A", "1,2\n2,1\n5,6\n", "line 3: there is no node 6; they are numbered from 1 to 5"),
    "node 0": ("A", "0,1\n1,0\n", "line 1: there is no node 0"),
    "an edge between graphs": ("A", "1,2\n2,1\n3,4\n4,3\n", "line 3: an edge between two graphs"),
    "an edge one way": ("A", "1,2\n2,1\n2,3\n", r"\(2, 3\) is there in one direction only"),
    "a graph too many": ("graph_indicator", "1\n1\n1\n2\n3\n", "every graph, numbered from 1 to 2"),
    "graphs out of order": ("graph_indicator", "1\n1\n2\n1\n2\n", "line 4: the graphs must ascend"),
    "kinds that do not fit": ("node_labels", "0\n1\n", "2 kinds for 5 nodes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_set_is_refused(folder: Path, case: str) -> None:
    name, text, message = BROKEN[case]
    file = folder / "TINY" / f"TINY_{name}.txt"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_tu("TINY", folder)


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "TINY" / "TINY_A.txt").write_bytes(b"1,2\n\xff\xfe")
    with pytest.raises(DataError, match="is no text"):
        read_tu("TINY", folder)


def test_the_folder_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TU_FOLDER, raising=False)
    with pytest.raises(DataError, match=TU_FOLDER):
        read_tu("NCI1")


@pytest.mark.skipif(not os.environ.get(TU_FOLDER), reason=f"{TU_FOLDER} does not name the folder of the sets")
@pytest.mark.parametrize("name", SIZES)
def test_the_sets_of_the_collection_are_complete(name: str) -> None:
    data = read_tu(name)
    assert (len(data), data.num_features, torch.bincount(data.labels).tolist()) == SIZES[name]


@given(labels=st.lists(st.integers(0, 2), min_size=10, max_size=30), seed=st.integers(0, 99))
def test_parts_are_disjoint_complete_and_have_their_share(labels: list[int], seed: int) -> None:
    tensor = torch.tensor(labels)
    folds = stratified_folds(tensor, 5, seed=seed)
    assert torch.cat(folds).sort().values.tolist() == list(range(len(labels)))
    for kind in set(labels):
        counts = [int((tensor[fold] == kind).sum()) for fold in folds]
        assert max(counts) - min(counts) <= 1
    assert all(map(torch.equal, folds, stratified_folds(tensor, 5, seed=seed)))
    train, validation, test = fold_split(folds, 4)
    assert sorted(torch.cat([train, validation, test]).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("num_folds", [1, 5])
def test_impossible_numbers_of_parts_are_refused(num_folds: int) -> None:
    with pytest.raises(ValueError, match="num_folds must be from 2 to 4"):
        stratified_folds(torch.zeros(4, dtype=torch.long), num_folds, seed=0)


def test_parts_that_are_not_there_are_refused() -> None:
    folds = stratified_folds(torch.zeros(6, dtype=torch.long), 3, seed=0)
    for fold in (-1, 3):
        with pytest.raises(ValueError, match=f"fold must be from 0 to 2, got {fold}"):
            fold_split(folds, fold)
    with pytest.raises(ValueError, match="need three folds or more, got 2"):
        fold_split(folds[:2], 0)


def test_one_direction_that_is_missing_is_found_in_a_large_set(tmp_path: Path) -> None:
    place = tmp_path / "LARGE"
    place.mkdir()
    count = 20_000  # a search of all edges for each edge would take hours
    edges = [f"{k},{k + 1}\n{k + 1},{k}\n" for k in range(1, count)]
    texts = {"A": "".join(edges)[:-1].rpartition("\n")[0] + "\n", "graph_indicator": "1\n" * count}
    for name, text in (texts | {"graph_labels": "1\n"}).items():
        (place / f"LARGE_{name}.txt").write_text(text)
    with pytest.raises(DataError, match=r"\(19999, 20000\) is there in one direction only"):
        read_tu("LARGE", tmp_path)
