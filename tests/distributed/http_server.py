"""A service of a model behind the HTTP server of the standard library, without Ray, and with faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.wire import Request
from lie_sim.distributed.service import Outcome, Service, facts_of, outcomes


class ModelServer(ThreadingHTTPServer):
    """Answers on a free port.

    Attributes:
        faults: what the next requests get instead of an answer: a status, or 0 for a connection that is cut.
        asked: methods of the requests so far.
    """

    def __init__(
        self, calculator: LieTransformerCalculator, *, max_atoms: int = 64, token: str | None = None
    ) -> None:
        async def evaluate(request: Request) -> Outcome:
            return outcomes(calculator, [request], max_atoms=max_atoms)[0]

        super().__init__(("127.0.0.1", 0), Handler)
        self.service = Service(facts_of(calculator, max_atoms=max_atoms), evaluate, token=token)
        self.faults: list[int] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def do_GET(self) -> None:
        self.server.asked.append(self.command)
        status = self.server.faults.pop(0) if self.server.faults else 200
        if status == 200:
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = asyncio.run(self.server.service.reply(self.command, headers, self.body()))
            self.send(found.status, found.body)
        elif status:
            self.send(status, b"a proxy speaks")

    do_POST = do_PUT = do_GET

    async def body(self) -> AsyncIterator[bytes]:
        rest = int(self.headers.get("content-length", 0))
        while rest:
            part = self.rfile.read(min(rest, 4096))
            rest -= len(part)
            yield part

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextmanager
def serving(server: ModelServer) -> Iterator[ModelServer]:
    """Answer inside the block."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
