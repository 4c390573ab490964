"""The protocol of Amazon S3, spoken by s3fs to a server that speaks it too: pip install s3fs 'moto[s3,server]'."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lie_sim.distributed import Run, simulate, verify
from lie_sim.distributed.object_store import ObjectStore
from lie_sim.distributed.store import DifferingSegmentError
from tests.distributed.chaos import content
from tests.distributed.test_simulate import OPTIONS, SYSTEM, springs

pytest.importorskip("s3fs", reason="s3fs is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server on this machine, with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def service(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, an address, a bucket, and an empty cache."""
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("LIE_SIM_CACHE", str(tmp_path / "cache"))
    boto3 = pytest.importorskip("boto3")
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="bucket")


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    def commit(number: int) -> str:
        store = ObjectStore("s3://bucket/one", cache=tmp_path / str(number))
        return store.commit(0, 0, content("same", 0, 0))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(commit, range(16))) == ["duplicate"] * 15 + ["new"]
    with pytest.raises(DifferingSegmentError):
        ObjectStore("s3://bucket/one", cache=tmp_path / "other").commit(0, 0, content("different", 0, 0))
    assert len(ObjectStore("s3://bucket/one").quarantined()) == 1


def test_a_run_is_that_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = simulate(SYSTEM, springs(), store="s3://bucket/two", **OPTIONS)
    here = simulate(SYSTEM, springs(), store=tmp_path / "folder", **OPTIONS)
    assert verify(there).sound
    monkeypatch.setenv("LIE_SIM_CACHE", str(tmp_path / "another machine"))
    again = Run("s3://bucket/two")
    assert again.status().complete
    for chunk in range(len(again.manifest.chunks)):
        again.store.read(chunk, 0)
        name = again.store.path(chunk, 0).relative_to(again.folder)
        assert (again.folder / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    assert (again.trajectory(3).q[:] == here.trajectory(3).q[:]).all()
