"""ZeroMQ between front ends and an engine process. The only home of zmq.

The engine binds a ROUTER, each front end connects a DEALER whose identity is its id. A message is one frame.
The socket is a file in a directory that only this user can enter: whoever can reach it may use the engine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import structlog
import zmq
import zmq.asyncio

from sluicegate.server.engine.errors import EngineError, FrontEndGone
from sluicegate.server.engine.messages import LARGEST_COMMAND_BYTES

# No high-water marks: the engine must not wait for a slow front end, and no token may be dropped. What can
# pile up is bounded by what was asked for: at most the context's length of tokens for each live request, of
# which the front end allows no more than its queue limit.
UNLIMITED = 0
LINGER_MILLISECONDS = 1_000  # time for the last events to leave after Stop
RECONNECT_MILLISECONDS = 20  # the front end connects before the engine has bound

log = structlog.get_logger()


class RouterPort:
    """The engine's end: binds `address`, an ipc:// path in a private directory. Engine thread only.

    Raises EngineError if others can enter the directory or the address cannot be bound.
    """

    def __init__(self, address: str) -> None:
        _require_private(Path(address.removeprefix("ipc://")).parent)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a message to no one raises
        self._socket.setsockopt(zmq.SNDHWM, UNLIMITED)
        self._socket.setsockopt(zmq.RCVHWM, UNLIMITED)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_COMMAND_BYTES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MILLISECONDS)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:  # an address that is in use, or too long for a Unix socket
            self.close()
            raise EngineError(f"the engine cannot listen: {error}") from error

    def receive(self, timeout_seconds: float | None) -> tuple[str, bytes] | None:
        """The next message and its sender, or None if none came in time."""
        timeout = None if timeout_seconds is None else int(timeout_seconds * 1_000)
        while self._socket.poll(timeout, zmq.POLLIN):
            identity, *frames = self._socket.recv_multipart()
            if len(frames) == 1:
                return identity.decode("latin-1"), frames[0]
            log.warning("command_dropped", front_end=identity.decode("latin-1"), frames=len(frames))
        return None

    def send(self, front_end: str, data: bytes) -> None:
        """Send one message. Raises FrontEndGone if the front end is not connected."""
        try:
            self._socket.send_multipart([front_end.encode("latin-1"), data])
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise FrontEndGone(front_end) from error
            raise

    def close(self) -> None:
        """Send what is left, for a second at most, and close."""
        self._socket.close()
        self._context.term()


class DealerConnection:
    """A front end's end. Event loop only. Raises EngineError for an address that cannot be an engine's."""

    def __init__(self, address: str, front_end: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, front_end.encode("latin-1"))
        self._socket.setsockopt(zmq.SNDHWM, UNLIMITED)
        self._socket.setsockopt(zmq.RCVHWM, UNLIMITED)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise EngineError(f"the engine cannot be reached: {error}") from error

    def send(self, data: bytes) -> None:
        """Send one message. Without a high-water mark ZeroMQ takes it at once, connected or not."""
        self._socket.send(data)

    async def receive_into(self, deliver: Callable[[bytes], None]) -> None:
        """Hand over each message as it comes, until cancelled.

        A ZeroMQ descriptor is edge-triggered; zmq.asyncio knows that and looks again after each send.
        """
        while True:
            deliver(await self._socket.recv())

    def close(self) -> None:
        """Close the socket; what is unsent is dropped, so nothing waits. A second call does nothing."""
        self._socket.close()
        self._context.term()


def _require_private(directory: Path) -> None:
    """Raise EngineError unless only this user can enter the directory."""
    found = directory.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise EngineError(f"{directory}: the engine's socket needs a directory of mode 0700 owned by this user")
