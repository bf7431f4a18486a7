"""A line to a server that can be cut: a TCP proxy that drops its connections without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Line:
    """Connections to a server through this process. `target` is where to connect to, `connections` how many came."""

    def __init__(self, server: str) -> None:
        self._host, _, self._port = server.rpartition(":")
        self._writers: list[asyncio.StreamWriter] = []
        self.target = ""
        self.connections = 0

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        for writer in self._writers:
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the bytes of one connection both ways."""
        self.connections += 1
        self._writers.append(writer)
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        self._writers.append(far_writer)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


@asynccontextmanager
async def line_to(server: str) -> AsyncIterator[Line]:
    """A line to the server at an address, on a port of its own."""
    line = Line(server)
    listener = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    line.target = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        listener.close()
        line.cut()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
