"""Files on disk: complete or absent, and refused when damaged."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lie_sim.data.storage import dump_tensors, load_tensors, save_tensors, tensors_digest
from lie_sim.errors import DataError

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([True, False])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "new" / "x.safetensors"
    save_tensors(target, TENSORS, {"seed": 3}, kind="things")
    return target


def test_round_trip_keeps_tensors_and_metadata(path: Path) -> None:
    tensors, metadata = load_tensors(path, kind="things")
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert metadata == {"seed": 3, "digest": tensors_digest(TENSORS)}


def test_same_content_gives_the_same_bytes(path: Path) -> None:
    again = path.with_name("again.safetensors")
    save_tensors(again, dict(reversed(TENSORS.items())), {"seed": 3}, kind="things")
    assert again.read_bytes() == path.read_bytes()


def test_tensors_that_share_memory_can_be_dumped(path: Path) -> None:
    whole = torch.arange(6.0)
    path.write_bytes(dump_tensors({"whole": whole, "part": whole[2:4]}, {"n": 1}, kind="example"))
    tensors, metadata = load_tensors(path, kind="example")
    assert torch.equal(tensors["part"], whole[2:4])
    assert metadata["n"] == 1


def test_a_dump_is_what_saving_writes(path: Path) -> None:
    tensors = {"b": torch.ones(3, dtype=torch.int64), "a": torch.zeros(2)}
    save_tensors(path, tensors, {"n": 1}, kind="example")
    assert path.read_bytes() == dump_tensors(tensors, {"n": 1}, kind="example")


def test_digest_sees_name_dtype_shape_and_value() -> None:
    x = torch.zeros(2, 3)
    variants = [{"x": x}, {"y": x}, {"x": x.mT}, {"x": x.int()}, {"x": x + 1}]
    assert len({tensors_digest(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="not a complete safetensors file"):
        load_tensors(path, kind="things")


def test_flipped_bit_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"altered .* should be [0-9a-f]{16}"):
        load_tensors(path, kind="things")


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no things file at"):
        load_tensors(tmp_path / "absent", kind="things")
    with pytest.raises(DataError, match="holds things, but trajectories was expected"):
        load_tensors(path, kind="trajectories")
    foreign = tmp_path / "foreign.safetensors"
    save_file(TENSORS, foreign)
    with pytest.raises(DataError, match="no lie_sim header"):
        load_tensors(foreign, kind="things")
    save_file(TENSORS, foreign, metadata={"lie_sim": "{"})
    with pytest.raises(DataError, match="damaged lie_sim header"):
        load_tensors(foreign, kind="things")
    newer = {"format": 99, "kind": "things", "digest": "", "metadata": {}}
    save_file(TENSORS, foreign, metadata={"lie_sim": json.dumps(newer)})
    with pytest.raises(DataError, match="has format 99"):
        load_tensors(foreign, kind="things")


def test_failed_write_leaves_the_old_file_and_no_litter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("lie_sim.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(path, {"b": torch.ones(1)}, {}, kind="things")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
