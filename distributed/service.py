"""What a server of a model answers: admission, then a batch of systems, then results or the reason why there are none.

    GET /     facts: the digest of the model, what it gives, what it reads, how many atoms it takes
    POST /    a request of lie_sim.calculators.wire, and the results

Nothing here knows of Ray or of a web framework.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase.calculators.calculator import InputError, PropertyNotImplementedError

from lie_sim.calculators.calculator import LieTransformerCalculator
from lie_sim.calculators.wire import (
    STATUS,
    Facts,
    Request,
    decode_request,
    encode_answer,
    encode_facts,
    encode_refusal,
    largest_request,
)
from lie_sim.errors import WireError

Outcome = dict[str, Any] | Exception
"""Results of a system, or why there are none."""
_KINDS = {WireError: "format", InputError: "input", PropertyNotImplementedError: "property"}


@dataclass(frozen=True)
class Reply:
    """An HTTP status and a body of JSON."""

    status: int
    body: bytes


class Service:
    """Answers requests.

    Args:
        facts: what it serves.
        evaluate: gives the outcome of a request.
        token: that every request must carry, as ``Authorization: Bearer …``; None lets everybody in.
    """

    def __init__(
        self, facts: Facts, evaluate: Callable[[Request], Awaitable[Outcome]], *, token: str | None = None
    ) -> None:
        self.facts, self._evaluate, self._token = facts, evaluate, token
        self._limit = largest_request(facts.max_atoms)

    async def reply(self, method: str, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> Reply:
        """Answer a request.

        Args:
            method: of HTTP.
            headers: with names in lower case.
            body: read as far as it is not too long, and only of those who are let in.
        """
        shown = headers.get("authorization", "")
        if not self._lets_in(shown):
            wrong = "the token is not the one of this server" if shown else "this server needs a token"
            return refusal("token", f"{wrong}: RemoteCalculator(url, token=…)")
        if method == "GET":
            return Reply(200, encode_facts(self.facts))
        if method != "POST":
            return refusal("method", f"expected GET or POST, got {method}")
        content = await self._read(body)
        if content is None:
            return refusal(
                "size",
                f"expected at most {self._limit} bytes, enough for {self.facts.max_atoms} atoms: "
                "the server has the option max_atoms",
            )
        try:
            request = decode_request(content, max_atoms=self.facts.max_atoms)
        except (WireError, InputError) as error:
            return refused(error)
        outcome = await self._evaluate(request)
        if isinstance(outcome, Exception):
            return refused(outcome)
        return Reply(200, encode_answer(outcome, model=self.facts.model))

    def _lets_in(self, authorization: str) -> bool:
        if self._token is None:
            return True
        return hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode())

    async def _read(self, body: AsyncIterator[bytes]) -> bytes | None:
        """The body; None if it is too long."""
        content = bytearray()
        async for part in body:
            content += part
            if len(content) > self._limit:
                return None
        return bytes(content)


def facts_of(calculator: LieTransformerCalculator, *, max_atoms: int) -> Facts:
    """What a server of this calculator says of itself."""
    potential = calculator.potentials[0]
    return Facts(
        model=calculator.todict()["model"],
        properties=tuple(calculator.implemented_properties),
        inputs=tuple(potential.config.inputs),
        max_atoms=max_atoms,
    )


def outcomes(
    calculator: LieTransformerCalculator, requests: Sequence[Request], *, max_atoms: int
) -> list[Outcome]:
    """Evaluate requests together; one that cannot be answered is no matter of the others.

    Args:
        calculator: the model.
        requests: those for the same properties make a batch.
        max_atoms: of a batch, padding included.
    """
    found: dict[int, Outcome] = {}
    for wanted in dict.fromkeys(each.properties for each in requests):
        places = [place for place, each in enumerate(requests) if each.properties == wanted]
        systems = [requests[place].atoms for place in places]
        try:
            together = calculator.predict_many(systems, properties=wanted, max_atoms=max_atoms)
            found |= dict(zip(places, together, strict=True))
        except Exception:  # one must not spoil the others: each is asked alone, and told its own error
            found |= {place: _alone(calculator, requests[place]) for place in places}
    return [found[place] for place in range(len(requests))]


def _alone(calculator: LieTransformerCalculator, request: Request) -> Outcome:
    try:
        return calculator.evaluate(request.atoms, request.properties)
    except Exception as error:
        return error


def refused(error: Exception) -> Reply:
    """The reply to a request that failed; what is not the fault of the request is told without details."""
    for kind, name in _KINDS.items():
        if isinstance(error, kind):
            return refusal(name, str(error))
    return refusal("internal", f"the model failed with {type(error).__name__}; the server's log may say why")


def refusal(kind: str, message: str) -> Reply:
    """A reply of a kind in :data:`~lie_sim.calculators.wire.STATUS`."""
    return Reply(STATUS[kind], encode_refusal(kind, message))
