"""Models on disk: round trips are exact, and every kind of damage is refused with a message that names it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

import lie_sim.checkpoint as checkpoint_module
from lie_sim.checkpoint import load_model, model_metadata, save_model
from lie_sim.errors import CheckpointError
from tests.saved import manifest, rewrite, some_input, tiny_hamiltonian


def weights_file(folder: Path) -> Path:
    return folder / manifest(folder)["weights"]["file"]


def replace_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Other weights with digests that fit."""
    content = save_safetensors(tensors)
    sha256 = checkpoint_module.hashlib.sha256(content).hexdigest()
    name = f"weights-{sha256[:16]}.safetensors"
    (folder / name).write_bytes(content)
    rewrite(folder, weights={"file": name, "bytes": len(content), "sha256": sha256})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tiny_hamiltonian(), tmp_path / "model", metadata={"unit": "eV", "nested": [1, 2.5, None]})
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_is_bit_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    hamiltonian = tiny_hamiltonian(masses="learned", num_attributes=1).to(dtype)
    for model in (hamiltonian, hamiltonian.potential):
        save_model(model, tmp_path / type(model).__name__)
        loaded = load_model(tmp_path / type(model).__name__)
        assert type(loaded) is type(model)
        assert not loaded.training
        for name, tensor in model.state_dict().items():
            assert loaded.state_dict()[name].dtype == dtype
            assert torch.equal(loaded.state_dict()[name], tensor), name
    loaded = load_model(tmp_path / "Hamiltonian")
    q, particles = some_input(dtype)
    assert loaded.masses == "learned"
    assert torch.equal(loaded.force(q, particles), hamiltonian.force(q, particles))
    assert torch.equal(loaded.particle_masses(particles), hamiltonian.particle_masses(particles))


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    before = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_metadata(saved: Path) -> None:
    assert model_metadata(saved) == {"unit": "eV", "nested": [1, 2.5, None]}


def test_overwriting_leaves_one_model(saved: Path) -> None:
    other = tiny_hamiltonian().double()
    save_model(other, saved)
    assert len(list(saved.iterdir())) == 2
    assert torch.equal(load_model(saved).potential.head.linear.weight, other.potential.head.linear.weight)


@pytest.mark.parametrize("survivors", [0, 1])
def test_overwriting_that_is_cut_short_leaves_the_old_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    old = load_model(saved).state_dict()
    written: list[Path] = []
    write = checkpoint_module.write_atomically

    def fail_late(path: Path, content: bytes) -> None:
        if len(written) == survivors:
            raise OSError("no space left on device")
        written.append(path)
        write(path, content)

    monkeypatch.setattr(checkpoint_module, "write_atomically", fail_late)
    with pytest.raises(OSError, match="no space"):
        save_model(tiny_hamiltonian(), saved)
    assert all(torch.equal(tensor, old[name]) for name, tensor in load_model(saved).state_dict().items())


def once(function: Callable[..., Any], first: Callable[[], None]) -> Callable[..., Any]:
    """The function, with something else that happens before its first call."""
    waiting = [first]

    def wrapped(*args: Any) -> Any:
        if waiting:
            waiting.pop()()
        return function(*args)

    return wrapped


def test_a_reader_whose_weights_are_replaced_begins_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_hamiltonian()
    read = checkpoint_module._read_weights
    monkeypatch.setattr(checkpoint_module, "_read_weights", once(read, lambda: save_model(other, saved)))
    loaded = load_model(saved)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def test_a_reader_gives_up_when_every_model_is_replaced_before_it_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = checkpoint_module._read_weights

    def too_late(folder: Path, weights: dict[str, Any]) -> bytes:
        save_model(tiny_hamiltonian(), folder)
        return read(folder, weights)

    monkeypatch.setattr(checkpoint_module, "_read_weights", too_late)
    with pytest.raises(CheckpointError, match="missing file"):
        load_model(saved)


def saved_by_another_writer_before(
    write: str, save: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrange that ``save`` happens just before our writer writes the file whose name begins so."""
    original, waiting = checkpoint_module.write_atomically, [save]

    def wrapped(path: Path, content: bytes) -> Path:
        if waiting and path.name.startswith(write):
            waiting.pop()()
        return original(path, content)

    monkeypatch.setattr(checkpoint_module, "write_atomically", wrapped)


@pytest.mark.parametrize("when", ["weights-", "model.json"])
@pytest.mark.parametrize("theirs_is_ours", [False, True])
def test_two_writers_leave_a_whole_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch, when: str, theirs_is_ours: bool
) -> None:
    ours = tiny_hamiltonian()
    theirs = ours if theirs_is_ours else tiny_hamiltonian()
    saved_by_another_writer_before(when, lambda: save_model(theirs, saved), monkeypatch)
    save_model(ours, saved)
    loaded = load_model(saved).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in ours.state_dict().items())


def test_saving_a_model_again_while_another_writer_replaces_it(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writer removes the weights that we have just written: they were those it replaced."""
    again = load_model(saved)
    saved_by_another_writer_before("model.json", lambda: save_model(tiny_hamiltonian(), saved), monkeypatch)
    save_model(again, saved)
    loaded = load_model(saved).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in again.state_dict().items())


def test_a_writer_does_not_remove_weights_that_are_in_use_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our two last steps the other writer saves the model that we have just replaced."""
    old, write = load_model(saved), checkpoint_module.write_atomically

    def then_theirs(path: Path, content: bytes) -> Path:
        write(path, content)
        if path.name == "model.json":
            monkeypatch.setattr(checkpoint_module, "write_atomically", write)
            save_model(old, saved)
        return path

    monkeypatch.setattr(checkpoint_module, "write_atomically", then_theirs)
    save_model(tiny_hamiltonian(), saved)
    loaded = load_model(saved).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in old.state_dict().items())


def test_only_the_weights_of_the_replaced_model_are_removed(saved: Path) -> None:
    replaced, foreign = weights_file(saved), saved / "weights-0123456789abcdef.safetensors"
    foreign.write_bytes(b"of another writer, whose model.json comes next")
    save_model(tiny_hamiltonian(), saved)
    assert foreign.exists()
    assert not replaced.exists()


def test_only_models_are_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"cannot save a Linear|Type-check error"):
        save_model(nn.Linear(1, 1), tmp_path)  # type: ignore[arg-type]
    mixed = tiny_hamiltonian()
    mixed.potential.head.double()
    with pytest.raises(ValueError, match="share one dtype"):
        save_model(mixed, tmp_path)
    with pytest.raises(TypeError, match="must be JSON"):
        save_model(tiny_hamiltonian(), tmp_path, metadata={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_missing_files(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is neither a folder nor a shipped model"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"missing file: no model.json"):
        load_model(tmp_path / "empty")
    weights_file(saved).unlink()
    with pytest.raises(CheckpointError, match=r"missing file: .*weights-"):
        load_model(saved)


@pytest.mark.parametrize("keep", [0, 7, 5000, -1])
def test_truncated_weights(saved: Path, keep: int) -> None:
    file = weights_file(saved)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        load_model(saved)


@pytest.mark.parametrize("position", [0, 9, 2000, -1])
def test_one_flipped_bit_in_the_weights(saved: Path, position: int) -> None:
    content = bytearray(weights_file(saved).read_bytes())
    content[position] ^= 1
    weights_file(saved).write_bytes(content)
    with pytest.raises(CheckpointError, match="altered"):
        load_model(saved)


def test_edited_configuration(saved: Path) -> None:
    text = (saved / "model.json").read_text()
    (saved / "model.json").write_text(text.replace('"energy_scale": 1.0', '"energy_scale": 2.0'))
    with pytest.raises(CheckpointError, match="altered"):
        load_model(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"format": 1, "format": 1}', '{"format": NaN}', "[" * 100_000]
)
def test_manifest_that_is_no_object(saved: Path, text: str) -> None:
    (saved / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"truncated or no JSON|no integer format version"):
        load_model(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 999}, "format version 999"),
        ({"format": True}, "no integer format version"),
        ({"format": "1"}, "no integer format version"),
        ({"architecture": "os.system"}, "unknown architecture"),
        ({"kind": "script"}, "unknown kind"),
        ({"kind": "classifier"}, "unknown architecture"),
        ({"dtype": "object"}, "unknown dtype"),
        ({"config": [1]}, "config must be dict"),
        ({"surprise": 1}, "unknown keys"),
        ({"options": {"masses": "known"}}, "missing keys"),
        ({"options": {"masses": "stolen", "num_attributes": 0}}, "does not make a model"),
        ({"options": {"masses": "known", "num_attributes": True}}, "num_attributes must be int"),
    ],
)
def test_impossible_manifest(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wdith": 8}, "unknown key wdith"),
        ({"width": "8"}, "width must be int"),
        ({"width": 8.0}, "width must be int"),
        ({"chirality": 1}, "chirality must be bool"),
        ({"attribute_mean": [0.1, "x"]}, r"attribute_mean\[1\] must be float"),
        ({"lifting": "__import__"}, "unknown lifting"),
        ({"width": 7}, "does not make a model"),
    ],
)
def test_impossible_configuration(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(saved, config={**manifest(saved)["config"], **changes})
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


@pytest.mark.parametrize("name", ["../weights-0123456789abcdef.safetensors", "/etc/passwd", "model.json", ""])
def test_weights_outside_the_folder(saved: Path, name: str) -> None:
    outside = saved.parent / "weights-0123456789abcdef.safetensors"
    outside.write_bytes(weights_file(saved).read_bytes())
    rewrite(saved, weights={**manifest(saved)["weights"], "file": name})
    with pytest.raises(CheckpointError, match="not a name of the form"):
        load_model(saved)


def test_tensors_that_do_not_fit(saved: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_model(saved).state_dict().items()}
    name = "potential.head.linear.weight"
    replace_tensors(saved, {**tensors, "extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"unexpected \['extra'\]"):
        load_model(saved)
    replace_tensors(saved, {key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=rf"missing \['{name}'\]"):
        load_model(saved)
    replace_tensors(saved, {**tensors, name: torch.zeros(2, 8)})
    with pytest.raises(CheckpointError, match=rf"{name} must be \(1, 8\).*got \(2, 8\)"):
        load_model(saved)
    replace_tensors(saved, {**tensors, name: tensors[name].double()})
    with pytest.raises(CheckpointError, match=r"float32, got .* torch.float64"):
        load_model(saved)
    replace_tensors(saved, tensors)
    assert torch.equal(load_model(saved).state_dict()[name], tensors[name])


def test_a_pickle_is_not_read(saved: Path) -> None:
    torch.save({"x": torch.zeros(1)}, weights_file(saved))
    content = weights_file(saved).read_bytes()
    digest = checkpoint_module.hashlib.sha256(content).hexdigest()
    weights = {"file": weights_file(saved).name, "bytes": len(content), "sha256": digest}
    rewrite(saved, weights=weights)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_model(saved)


def test_a_header_that_lies_about_its_length_is_refused(saved: Path) -> None:
    content = bytearray(weights_file(saved).read_bytes())
    content[:8] = struct.pack("<Q", 2**62)
    weights_file(saved).write_bytes(content)
    digest = checkpoint_module.hashlib.sha256(content).hexdigest()
    rewrite(saved, weights={"file": weights_file(saved).name, "bytes": len(content), "sha256": digest})
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_model(saved)
