"""A remote calculator is the local one; what goes wrong on the way is tried again or named."""

from __future__ import annotations

import asyncio
import copy
import http.client
import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import InputError, PropertyNotImplementedError
from ase.optimize import BFGS

from lie_sim.calculators import LieTransformerCalculator, RemoteCalculator, remote
from lie_sim.calculators.wire import Request, decode_refusal, encode_request, largest_request
from lie_sim.distributed.service import Outcome, Reply, Service, facts_of, outcomes
from lie_sim.errors import ServerError
from lie_sim.models import AtomicPotential
from tests.distributed.http_server import ModelServer, serving

SAME = 1e-10  # eV, eV/Å; the same sums in the same or another order
TOKEN = "open sesame"
LARGEST = 64


@pytest.fixture(scope="module")
def local() -> LieTransformerCalculator:
    torch.manual_seed(0)
    network = {
        "width": 16,
        "num_heads": 4,
        "num_layers": 2,
        "num_moments": 3,
        "kernel_hidden": 16,
        "cutoff": 4.0,
    }
    potential = AtomicPotential.default(elements=(1, 8, 13), network=network, inputs=("charge",))
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return LieTransformerCalculator(potential.double())


@pytest.fixture
def server(local: LieTransformerCalculator) -> Iterator[ModelServer]:
    with serving(ModelServer(local, max_atoms=LARGEST, token=TOKEN)) as running:
        yield running


@pytest.fixture
def calculator(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> RemoteCalculator:
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    return RemoteCalculator(server.url, token=TOKEN)


def crystal() -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms


def test_results_are_the_local_ones(calculator: RemoteCalculator, local: LieTransformerCalculator) -> None:
    assert calculator.implemented_properties == local.implemented_properties
    for atoms in (molecule("H2O"), crystal()):
        names = ["energy", "free_energy", "energies", "forces", *(["stress"] if atoms.pbc.all() else [])]
        expected = local.evaluate(atoms, names)
        for name in names:
            found = calculator.get_property(name, atoms)
            assert np.shape(found) == np.shape(expected[name])
            assert np.abs(found - expected[name]).max() < SAME, name
    assert isinstance(calculator.get_potential_energy(molecule("H2O")), float)


def test_nothing_is_asked_twice(calculator: RemoteCalculator) -> None:
    water = molecule("H2O", calculator=calculator)
    before = water.get_potential_energy()
    water.get_forces()
    assert calculator.evaluations == 1
    water.info["charge"] = 1
    assert water.get_potential_energy() != before
    water.info["comment"] = "not read by the model"
    water.get_forces()
    assert calculator.evaluations == 2
    water.positions[0] += 0.1
    water.get_potential_energy()
    assert calculator.evaluations == 3


def test_it_relaxes_a_molecule_as_the_local_one(
    calculator: RemoteCalculator, local: LieTransformerCalculator
) -> None:
    found = []
    for each in (calculator, copy.deepcopy(calculator), local):
        water = molecule("H2O", calculator=each)
        BFGS(water, logfile=None).run(fmax=0.0, steps=4)
        found.append(water.positions)
    assert np.ptp(found, axis=0).max() < 1e-8


def test_it_names_the_model_and_not_the_token(
    calculator: RemoteCalculator, local: LieTransformerCalculator
) -> None:
    assert calculator.todict() == {"model": local.todict()["model"]}
    assert TOKEN not in repr(calculator.parameters)
    assert pickle.loads(pickle.dumps(calculator)).get_potential_energy(molecule("H2O")) < np.inf


@pytest.mark.parametrize("fault", [0, 500, 503])
def test_what_may_pass_is_tried_again(calculator: RemoteCalculator, server: ModelServer, fault: int) -> None:
    server.faults, server.asked = [fault] * 3, []
    assert np.isfinite(calculator.get_potential_energy(molecule("H2O")))
    assert server.asked == ["POST"] * 4


@pytest.mark.parametrize(("fault", "tries"), [(0, 6), (503, 6), (404, 1), (429, 1)])
def test_what_does_not_pass_is_named(
    calculator: RemoteCalculator, server: ModelServer, fault: int, tries: int
) -> None:
    server.faults, server.asked = [fault] * 99, []
    with pytest.raises(ServerError, match=rf"no answer from {server.url}/: .*Is the server there"):
        calculator.get_potential_energy(molecule("H2O"))
    assert len(server.asked) == tries
    server.faults = []
    assert np.isfinite(calculator.get_potential_energy(molecule("H2O")))


@pytest.mark.parametrize(
    ("atoms", "error", "says"),
    [
        (molecule("CO"), InputError, "this model does not know the element C"),
        (Atoms("H2"), InputError, r"atoms 0 \(H\) and 1 \(H\) are 0.0e\+00 Å apart"),
        (
            Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]),
            InputError,
            r"the positions of the atoms \[1\] are not finite",
        ),
        (Atoms(f"H{LARGEST + 1}", np.eye(LARGEST + 1)[:, :3]), InputError, f"more than the {LARGEST}"),
        (Atoms("H800"), InputError, "expected at most [0-9]+ bytes, enough for 64 atoms"),
        (Atoms("H", info={"charge": "two"}), InputError, "must be a number, got 'two'"),
        (Atoms(), InputError, "a system without atoms has no energy"),
    ],
)
def test_a_system_that_cannot_be_computed_is_named_once(
    calculator: RemoteCalculator, server: ModelServer, atoms: Atoms, error: type[Exception], says: str
) -> None:
    server.asked = []
    with pytest.raises(error, match=says):
        calculator.get_potential_energy(atoms)
    assert len(server.asked) <= 1


def test_a_stress_needs_a_volume_and_a_property_a_head(calculator: RemoteCalculator) -> None:
    with pytest.raises(PropertyNotImplementedError, match="the stress needs a volume"):
        calculator.get_stress(molecule("H2O"))
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_dipole_moment(molecule("H2O"))


@pytest.mark.parametrize("token", [None, "guess", TOKEN + "x"])
def test_without_the_token_nobody_is_let_in(server: ModelServer, token: str | None) -> None:
    says = "this server needs a token" if token is None else "the token is not the one of this server"
    with pytest.raises(ServerError, match=f"refuses: {says}"):
        RemoteCalculator(server.url, token=token)
    assert server.asked == ["GET"]


def test_another_model_at_the_same_address_is_noticed(
    calculator: RemoteCalculator, server: ModelServer
) -> None:
    async def evaluate(_: Request) -> Outcome:
        return {"energy": 0.0, "forces": np.zeros((3, 3))}

    other = facts_of(LieTransformerCalculator(AtomicPotential.default(elements=(1, 8))), max_atoms=9)
    server.service = Service(other, evaluate)
    with pytest.raises(ServerError, match="serves another model now"):
        calculator.get_potential_energy(molecule("H2O"))


def test_a_server_of_another_kind_is_named(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def reply(*_: object) -> Reply:
        return Reply(200, b"<html>")

    monkeypatch.setattr(server.service, "reply", reply)
    with pytest.raises(ServerError, match="does not answer as a server of lie_sim: expected JSON"):
        RemoteCalculator(server.url)


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerError, match=r"within 0.1 s: raise timeout="):
            RemoteCalculator(url, timeout=0.1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "127.0.0.1:8000"}, "url must be like http://127.0.0.1:8000"),
        ({"url": "ftp://here"}, "url must be like"),
        ({"token": "secret\n"}, r"token must be printable ASCII .* token\.strip\(\)"),
        ({"timeout": 0}, "timeout must be positive"),
        ({"retries": -1}, "retries not negative"),
        ({"compute": ["dipole"]}, "compute: no property dipole; there are energy"),
    ],
)
def test_options_are_checked(server: ModelServer, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RemoteCalculator(**({"url": server.url, "token": TOKEN} | options))


def status_of(server: ModelServer, method: str, body: bytes, token: str = TOKEN) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, "/", body, {"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    found = response.status, decode_refusal(response.read())[0]
    connection.close()
    return found


def test_statuses_are_those_of_http(server: ModelServer) -> None:
    nowhere = encode_request(Atoms("H2", [[0, 0, 0], [0, 0, np.inf]]), ["energy"])
    assert status_of(server, "POST", nowhere) == (422, "input")
    assert status_of(server, "POST", nowhere[:-1]) == (400, "format")
    assert status_of(server, "POST", encode_request(Atoms("H"), ["spam"])) == (422, "property")
    assert status_of(server, "POST", nowhere, token="no") == (401, "token")
    assert status_of(server, "POST", b" " * (largest_request(LARGEST) + 1)) == (413, "size")
    assert status_of(server, "PUT", nowhere) == (405, "method")


def test_a_long_body_is_not_read_to_its_end(local: LieTransformerCalculator) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        for part in range(1000):
            read.append(part)
            yield b" " * 10_000

    async def evaluate(_: Request) -> Outcome:
        raise AssertionError

    service = Service(facts_of(local, max_atoms=LARGEST), evaluate, token=TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert asyncio.run(service.reply("POST", headers, body())).status == 413
    assert len(read) == 1 + largest_request(LARGEST) // 10_000
    assert asyncio.run(service.reply("POST", {}, body())).status == 401
    assert len(read) == 1 + largest_request(LARGEST) // 10_000


def test_one_bad_request_does_no_harm_to_the_others(local: LieTransformerCalculator) -> None:
    good = [
        Request(molecule("H2O"), ("energy",)),
        Request(crystal(), ("stress",)),
        Request(Atoms("H"), ("energy",)),
    ]
    bad = [
        Request(molecule("CO"), ("energy",)),
        Request(Atoms("H"), ("stress",)),
        Request(Atoms("H2"), ("energy",)),
    ]
    found = outcomes(local, [good[0], bad[0], good[1], bad[1], good[2], bad[2]], max_atoms=LARGEST)
    assert [type(each) for each in found[1::2]] == [InputError, PropertyNotImplementedError, InputError]
    for each, outcome in zip(good, found[::2], strict=True):
        assert isinstance(outcome, dict)
        for name, value in local.evaluate(each.atoms, each.properties).items():
            assert np.abs(outcome[name] - value).max() < SAME


def test_a_failing_model_is_not_tried_again_and_tells_no_details(
    calculator: RemoteCalculator, server: ModelServer
) -> None:
    async def evaluate(_: Request) -> Outcome:
        return RuntimeError("/secret/path")

    server.service = Service(server.service.facts, evaluate)
    server.asked = []
    with pytest.raises(ServerError, match=r"refuses: the model failed with RuntimeError; [\w' ]+$"):
        calculator.get_potential_energy(molecule("H2O"))
    assert server.asked == ["POST"]


def test_it_needs_neither_torch_nor_ray() -> None:
    script = "import sys; import lie_sim.calculators.remote; print({'torch', 'ray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
