"""The same store on object storage: a segment is an object, committed by a put that fails where there is one.

    s3://bucket/run/            the names that a run has in a folder, but for tmp/, events.jsonl and packs
    $LIE_SIM_CACHE/runs/…/      on every machine: what was read from there, and the events; can be deleted at any time

    commit = put, if absent

Objects appear whole or not at all, so nothing is synchronised and nothing is left over. Whoever finds the name taken
compares, as in a folder; so does a writer whose put arrived although the answer was lost.

Reference: "Conditional writes", Amazon S3 User Guide (If-None-Match: *); Google Cloud Storage has
x-goog-if-generation-match: 0, Azure If-None-Match. fsspec's file systems of these services offer them as
``mode="create"``.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lie_sim.data.qm9 import cache_folder
from lie_sim.distributed.manifest import NAME, Manifest
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.distributed.store import Committed, SegmentStore, differing
from lie_sim.errors import ConfigError, DataError

CONDITIONAL = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Protocols of file systems that put an object only where there is none, in one step."""
_SEGMENT = re.compile(r"(\d{6})/(\d{6})\.safetensors$")


class ObjectStore(SegmentStore):
    """Segments as objects.

    Args:
        url: of the run, such as ``"s3://bucket/run"``; credentials are found as s3fs, gcsfs and adlfs find them.
        cache: folder of copies; None for one in ``$LIE_SIM_CACHE``.

    Attributes:
        url: of the run.

    Raises:
        ConfigError: the place has no conditional put, or the package that speaks its protocol is missing.

    Example:
        >>> import tempfile
        >>> store = ObjectStore("memory://bucket/run", cache=Path(tempfile.mkdtemp()))
        >>> store.commit(0, 0, b"content"), store.commit(0, 0, b"content"), store.has(0, 0)
        ('new', 'duplicate', True)
    """

    packable = False

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._objects, self._root = _file_system(self.url)
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        super().__init__(cache or cache_folder() / "runs" / name)

    @property
    def location(self) -> str:
        """The URL."""
        return self.url

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return bool(self._objects.exists(f"{self._root}/{NAME}"))

    def make(self) -> None:
        """A local folder without copies of another run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        super().make()

    def begin(self, manifest: Manifest) -> Manifest:
        """Put what was written in the local folder, the manifest last of all; returns the one that is there.

        Raises:
            ConfigError: objects of another run are there, without its manifest.
        """
        written = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        for path in written:
            name = path.relative_to(self.folder).as_posix()
            if not name.startswith("tmp/") and not self._put(name, path.read_bytes()):
                raise ConfigError(
                    f"{self.url}/{name} is of another run, which has no {NAME}: delete it, or use another place"
                )
        self._put(NAME, manifest.to_bytes())
        return self.manifest()

    def manifest(self) -> Manifest:
        """What the run is; copies of another run that was there before are removed."""
        content, local = self._get(NAME), self.folder / NAME
        if content is None:
            raise DataError(f"no run in {self.url}: it has no {NAME}")
        if not local.exists() or local.read_bytes() != content:
            self.make()
            for name in [*self._names("model"), "membership.safetensors"]:
                self._copy(name)
            self._keep(local, content)
        return Manifest.load(self.folder)

    def start_path(self, chunk: int) -> Path:
        """A copy of the initial states of a chunk."""
        path = super().start_path(chunk)
        if not path.exists() and self.exists():
            self._copy(path.relative_to(self.folder).as_posix())
        return path

    def has(self, chunk: int, number: int) -> bool:
        """Whether a segment was committed."""
        return self.path(chunk, number).exists() or bool(self._objects.exists(self._key(chunk, number)))

    def commit(self, chunk: int, number: int, content: bytes) -> Committed:
        """Add a segment, once; see :meth:`SegmentStore.commit`."""
        name = self._name(chunk, number)
        outcome: Committed = "new"
        while not self._create(name, content):
            there = self._get(name)
            if there == content:
                outcome = "duplicate"
                break
            if not self.set_aside(chunk, number) and there is not None:
                kept = self._in_quarantine(chunk, number, "differs", content)
                raise differing(kept, chunk, number)
        self._keep(self.path(chunk, number), content)
        return outcome

    def read(self, chunk: int, number: int, *, check: bool = False) -> SegmentFile:
        """A committed segment, from its copy; the first reading makes one."""
        path = self.path(chunk, number)
        if not path.exists():
            content = self._get(self._name(chunk, number))
            if content is None:
                raise FileNotFoundError(
                    f"segment {number} of chunk {chunk} is not there: {self._url(chunk, number)}"
                )
            found = SegmentFile(content, Path(self._url(chunk, number)))
            found.check()
            self._keep(path, content)
        found = SegmentFile.open(path)
        if check:
            found.check()
        return found

    def set_aside(self, chunk: int, number: int) -> bool:
        """Move a damaged segment to ``quarantine/``, to be made again; False if it is not there, or not damaged."""
        name = self._name(chunk, number)
        content = self._get(name)
        self.disk.remove(self.path(chunk, number))
        if content is None or _is_whole(content):
            return False
        self._in_quarantine(chunk, number, "damaged", content)
        self._objects.rm_file(f"{self._root}/{name}")
        return True

    def scan(self, num_chunks: int, num_segments: int) -> np.ndarray:
        """Which segments are there, shape (C, K)."""
        present = np.zeros((num_chunks, num_segments), dtype=bool)
        for name in self._names("seg"):
            found = _SEGMENT.search(name)
            if found and int(found[1]) < num_chunks and int(found[2]) < num_segments:
                present[int(found[1]), int(found[2])] = True
        return present

    def quarantined(self) -> list[str]:
        """Names of what is in quarantine."""
        return sorted(name.rpartition("/")[2] for name in self._names("quarantine"))

    def _name(self, chunk: int, number: int) -> str:
        return f"seg/{chunk:06d}/{number:06d}.safetensors"

    def _key(self, chunk: int, number: int) -> str:
        return f"{self._root}/{self._name(chunk, number)}"

    def _url(self, chunk: int, number: int) -> str:
        return f"{self.url}/{self._name(chunk, number)}"

    def _names(self, folder: str) -> list[str]:
        """Names of all objects below a folder, from the root of the run."""
        try:
            found = self._objects.find(f"{self._root}/{folder}")
        except FileNotFoundError:
            return []
        return sorted(folder + each.partition(f"{self._root}/{folder}")[2] for each in found)

    def _create(self, name: str, content: bytes) -> bool:
        try:
            self._objects.pipe_file(f"{self._root}/{name}", content, mode="create")
        except FileExistsError:
            return False
        return True

    def _put(self, name: str, content: bytes) -> bool:
        """Create an object; False if another content is there."""
        return self._create(name, content) or self._get(name) == content

    def _get(self, name: str) -> bytes | None:
        try:
            content: bytes = self._objects.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def _copy(self, name: str) -> None:
        content = self._get(name)
        if content is None:
            raise DataError(f"{self.url}/{name} is missing: restore it from a copy")
        self._keep(self.folder / name, content)

    def _keep(self, path: Path, content: bytes) -> None:
        """A copy of an object; several processes of a machine may be at it."""
        temporary = self.temporary()
        try:
            self.disk.write(temporary, content)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.disk.link(temporary, path)
        finally:
            self.disk.remove(temporary)

    def _in_quarantine(self, chunk: int, number: int, what: str, content: bytes) -> str:
        name = f"quarantine/{chunk:06d}-{number:06d}.{what}-{secrets.token_hex(4)}"
        self._put(name, content)
        return f"{self.url}/{name}"


def open_store(location: str | Path) -> SegmentStore:
    """The store in a folder, or at a URL.

    Example:
        >>> open_store("memory://bucket/run").location, open_store("runs/a").folder.name
        ('memory://bucket/run', 'a')
    """
    if isinstance(location, str) and "://" in location:
        return ObjectStore(location)
    return SegmentStore(Path(location).absolute())  # the working directory may change


def _file_system(url: str) -> tuple[Any, str]:
    """What speaks to the service, and the path of the run there."""
    protocol = url.partition("://")[0]
    if protocol not in CONDITIONAL:
        raise ConfigError(
            f"a run cannot be at {url}: it needs a folder that all machines see, or object storage that puts an object "
            f"only where there is none: {', '.join(CONDITIONAL)}"
        )
    try:
        from fsspec.core import url_to_fs

        objects, root = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(f"{url}: {error}") from error
    return objects, str(root).rstrip("/")


def _is_whole(content: bytes) -> bool:
    try:
        SegmentFile(content, Path()).check()
    except DataError:
        return False
    return True
