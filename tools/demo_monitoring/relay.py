"""Connections that come from other addresses of this machine, as if callers sat in several networks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


def has_networks() -> bool:
    """Whether this machine lets programs call from all of 127.0.0.0/8; Linux does, macOS by itself does not."""
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        return False
    return True


@asynccontextmanager
async def from_network(source: str, target: str) -> AsyncIterator[str]:
    """A relay to the target, HOST:PORT, that calls it from the source address; gives where it listens."""
    host, _, port = target.rpartition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
