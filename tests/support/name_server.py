"""A name server on loopback whose one name has the addresses that a test gives it, as a headless Service's has."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from socket import inet_aton
from typing import cast

_HEADER_BYTES = 12
_ANSWER = 0x8180  # flags of RFC 1035, section 4.1.1: a response without an error, recursion available
_POINTER_TO_THE_QUESTION = 0xC000 | _HEADER_BYTES
_A, _IN = 1, 1


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for IPv4 addresses of any name with `addresses`, which count for no time (TTL 0)."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses = list(addresses)
        self.authority = ""
        """The `HOST:PORT` of a target `dns://HOST:PORT/NAME:PORT`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        host, port = transport.get_extra_info("sockname")
        self.authority = f"{host}:{port}"

    def datagram_received(self, data: bytes, asker: tuple[str, int]) -> None:
        end = data.index(b"\0", _HEADER_BYTES) + 5
        question = data[_HEADER_BYTES:end]
        (kind,) = struct.unpack(">H", question[-4:-2])
        addresses = self.addresses if kind == _A else []
        header = data[:2] + struct.pack(">HHHHH", _ANSWER, 1, len(addresses), 0, 0)
        entry = struct.pack(">HHHIH", _POINTER_TO_THE_QUESTION, _A, _IN, 0, 4)
        self._transport.sendto(header + question + b"".join(entry + inet_aton(each) for each in addresses), asker)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[NameServer]:
    """A name server on a free port, closed with the context."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(addresses), ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
