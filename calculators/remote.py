"""A calculator whose model runs on a server: small programs, one process with the weights and the GPU.

    atoms.calc = RemoteCalculator("http://127.0.0.1:8000")        the server: lie-sim serve MODEL

Results are those of the model itself. A connection that breaks and a server that is too busy are tried again:
evaluations have no side effects. It needs neither PyTorch nor Ray.

Shape letters: N atoms.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ase import Atoms
from ase.calculators.calculator import Calculator, InputError, PropertyNotImplementedError, all_changes

from lie_sim.calculators.entries import are_as_kept, changes_between, entries_of
from lie_sim.calculators.wire import (
    Facts,
    decode_answer,
    decode_facts,
    decode_refusal,
    encode_request,
)
from lie_sim.errors import ServerError, WireError

PAUSE = 0.25
"""Seconds before the second try; doubled each time."""
_LONGEST_PAUSE = 5.0
_Value = TypeVar("_Value")
_FAULTS = {"input": InputError, "size": InputError, "property": PropertyNotImplementedError}
"""Refusals that are errors of ASE; the others are a :class:`~lie_sim.errors.ServerError`."""


class RemoteCalculator(Calculator):
    """Energies, forces and what else the model of a server gives, in every workflow of ASE.

    Args:
        url: of the server, such as ``"http://127.0.0.1:8000"``.
        token: what the server wants to see; only ``https``, or a network that is trusted, keeps it secret.
        timeout: seconds to wait for an answer.
        retries: how often a request is sent again when the connection breaks or the server is busy or starting.
        compute: what every evaluation gives, beside what is asked for; None means energy and forces.

    Attributes:
        facts: what the server says of itself.
        implemented_properties: what there is.
        evaluations: how often the server was asked.

    Raises:
        ValueError: an option is impossible.
        ServerError: there is no server, it does not let us in, or it is of another kind.

    Example:
        >>> RemoteCalculator("http://127.0.0.1:1", retries=0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lie_sim.errors.ServerError: no answer from http://127.0.0.1:1/: ... Is the server there (lie-sim serve MODEL)?
    """

    name = "lie_sim-remote"
    nolabel = True
    discard_results_on_any_change = True

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        compute: Sequence[str] | None = None,
    ) -> None:
        if timeout <= 0 or retries < 0:
            raise ValueError(
                f"timeout must be positive and retries not negative, got {timeout} and {retries}"
            )
        self._server = Server(url, token=token, timeout=timeout, retries=retries)
        self.facts: Facts = self._server.facts()
        self.implemented_properties = list(self.facts.properties)
        self.evaluations = 0
        self._entries: dict[str, Any] = {}
        super().__init__(url=url, compute=_chosen(compute, self.facts))

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What identifies the model, for the metadata of trajectories and databases."""
        return {"model": self.facts.model}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, the global inputs of the model included."""
        changes = changes_between(self.atoms, atoms, tol=tol)
        if self.atoms is not None and not are_as_kept(self._entries, atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises:
            InputError: the system is impossible, unknown to the model or too large; the message says why.
            PropertyNotImplementedError: there is no such property.
            ServerError: there is no answer, or it is from another model.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        system = self.atoms
        assert system is not None
        self._entries = entries_of(system, self.facts.inputs)
        wanted = dict.fromkeys((*properties, *self.parameters["compute"]))
        self.results = self._server.results(system, list(wanted), self.facts)
        self.evaluations += 1


class Server:
    """The other end.

    Args:
        url: where it is.
        token: what it wants to see.
        timeout: seconds to wait for an answer.
        retries: how often to ask again.
        sleep: how to wait before that.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        timeout: float,
        retries: int,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be like http://127.0.0.1:8000, got {url!r}")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError(
                "token must be printable ASCII characters; one that was read from a file may end with a line break: "
                "token.strip()"
            )
        self._connection = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path or "/"
        self._url = f"{parts.scheme}://{parts.netloc}{self._path}"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout, self._retries, self._sleep = timeout, retries, sleep

    def facts(self) -> Facts:
        """What it says of itself."""
        return self._read(decode_facts, self._ask("GET"))

    def results(self, atoms: Atoms, properties: Sequence[str], facts: Facts) -> dict[str, Any]:
        """The properties of a system, by the model of these facts."""
        content = self._ask("POST", encode_request(atoms, properties, inputs=facts.inputs))
        model, results = self._read(decode_answer, content)
        if model != facts.model:
            raise ServerError(
                f"{self._url} serves another model now, {model[:12]}… instead of {facts.model[:12]}…: "
                "results of two models would be mixed; make a new RemoteCalculator"
            )
        return results

    def _ask(self, method: str, body: bytes | None = None) -> bytes:
        """The answer; what may pass is tried again."""
        for attempt in range(self._retries + 1):
            if attempt:
                self._sleep(min(PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE))
            try:
                status, content = self._once(method, body)
            except TimeoutError as error:
                raise ServerError(
                    f"no answer from {self._url} within {self._timeout:g} s: raise timeout=…, or serve the model "
                    "with more replicas"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{error or type(error).__name__}"
                continue
            if status == 200:
                return content
            refusal = _refusal(content)
            if refusal is not None:
                raise self._fault(*refusal)
            trouble = f"status {status}"
            if status < 500:  # 500 and more of a proxy, whose body is not ours, may pass
                break
        raise ServerError(
            f"no answer from {self._url}: {trouble}. Is the server there (lie-sim serve MODEL)?"
        )

    def _once(self, method: str, body: bytes | None) -> tuple[int, bytes]:
        connection = self._connection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, self._path, body, self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _read(self, decode: Callable[[bytes], _Value], content: bytes) -> _Value:
        try:
            return decode(content)
        except WireError as error:
            raise ServerError(f"{self._url} does not answer as a server of lie_sim: {error}") from error

    def _fault(self, kind: str, message: str) -> Exception:
        if kind in _FAULTS:
            return _FAULTS[kind](message)
        return ServerError(f"{self._url} refuses: {message}")


def _chosen(compute: Sequence[str] | None, facts: Facts) -> tuple[str, ...]:
    """What every evaluation gives."""
    if compute is None:
        return tuple(name for name in ("energy", "forces") if name in facts.properties)
    unknown = sorted(set(compute) - set(facts.properties))
    if unknown:
        raise ValueError(
            f"compute: no property {', '.join(unknown)}; there are {', '.join(facts.properties)}"
        )
    return tuple(compute)


def _refusal(content: bytes) -> tuple[str, str] | None:
    try:
        return decode_refusal(content)
    except WireError:
        return None
