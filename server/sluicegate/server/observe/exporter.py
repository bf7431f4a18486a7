"""The Prometheus endpoint: `GET /metrics`, on a port, a thread and an event loop of its own.

One thread answers everybody, and each connection is one request with one deadline. When there are too many, the oldest
one is dropped: a scrape takes milliseconds, so what is old is somebody who holds the line.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

import structlog

from sluicegate.server.errors import SettingsError
from sluicegate.server.observe.exposition import WithoutCreated
from sluicegate.server.observe.login import CHALLENGE, Login
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.scrapes import BadRequest, Request, Response, metrics_response, parse

MOST_CONNECTIONS = 32
"""Prometheus needs one at a time; a pair of them, a person and some scanners leave it room."""
HEAD_BYTES = 8_192
CONNECTION_SECONDS = 10.0
"""For a handshake, a request and its answer: as long as Prometheus waits by default (`scrape_timeout`)."""
ACCEPT_RETRY_SECONDS = 0.1
"""Where the process has no file descriptor left, which passes."""
TLS_CLOSE_SECONDS = 1.0

log = structlog.get_logger()


@contextmanager
def exported(
    metrics: Metrics,
    listen: str,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
    login: Login | None = None,
) -> Iterator[int]:
    """Serve the metrics while the context is open; yields the port (the one chosen, where `listen` says 0).

    `tls` is asked for each connection, in the endpoint's thread. Raises SettingsError if the address cannot be
    listened on.
    """
    try:
        listener = _bound(listen)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError([f"metrics.listen: cannot listen on {listen}: {reason}"]) from None
    with listener:
        endpoint = _Endpoint(WithoutCreated(metrics.registry), listener, tls, login)
        thread = threading.Thread(target=endpoint.run, name="metrics", daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            endpoint.stop()
            thread.join()


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class _Endpoint:
    """Answers on a listening socket. `run` in a thread of its own, `stop` from any other."""

    def __init__(
        self,
        registry: WithoutCreated,
        listener: socket.socket,
        tls: Callable[[], ssl.SSLContext] | None,
        login: Login | None,
    ) -> None:
        self._registry = registry
        self._listener = listener
        self._tls = tls
        self._login = login
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._connections: dict[asyncio.Task[None], None] = {}  # in the order in which they came

    def run(self) -> None:
        """Until it is stopped."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """Drop all connections and end."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        self._listen()
        await self._stopping.wait()
        self._loop.remove_reader(self._listener)
        ending = list(self._connections)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next turn

    def _listen(self) -> None:
        if not self._stopping.is_set():
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take one connection. Not with sock_accept: cancelled as somebody connects, it forgets to close."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._loop.remove_reader(self._listener)
            self._loop.call_later(ACCEPT_RETRY_SECONDS, self._listen)
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            oldest = next(iter(self._connections))
            self._connections.pop(oldest)
            oldest.cancel()
        task = self._loop.create_task(self._hold(connection))
        self._connections[task] = None
        task.add_done_callback(functools.partial(self._ended, connection))

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        connection.close()  # of a task that was cancelled before it began, nothing else would

    async def _hold(self, connection: socket.socket) -> None:
        """One connection, from its handshake to its end."""
        connection.setblocking(False)
        with suppress(OSError, EOFError, TimeoutError):  # it went away, spoke no TLS, or took too long
            async with asyncio.timeout(CONNECTION_SECONDS):
                reader, writer = await self._opened(connection)
                try:
                    writer.write((await self._answer(reader)).encode())
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
                finally:
                    writer.transport.abort()

    async def _opened(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The streams of a connection. TLS begins here, not in the listener: handshakes count as connections."""
        reader = asyncio.StreamReader(limit=HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = None if self._tls is None else self._tls()
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=None if context is None else CONNECTION_SECONDS,
            ssl_shutdown_timeout=None if context is None else TLS_CLOSE_SECONDS,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _answer(self, reader: asyncio.StreamReader) -> Response:
        """Raises EOFError if no whole request comes."""
        try:
            request = parse(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            return Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except BadRequest:
            return Response(HTTPStatus.BAD_REQUEST)
        return self._respond(request)

    def _respond(self, request: Request) -> Response:
        if self._login is not None and not self._login.admits(request.headers.get("authorization")):
            return Response(HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": CHALLENGE})
        if request.path != "/metrics":
            return Response(HTTPStatus.NOT_FOUND)
        if request.method != "GET":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
        try:
            return metrics_response(self._registry, request)
        except Exception:  # of a metric's function; the thread must outlive it
            log.exception("metrics_not_written")
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR)
