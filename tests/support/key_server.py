"""A web server on loopback that publishes keys, well or badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from sluicegate.auth import SigningKey


class Manner(Enum):
    """How the server treats a question."""

    ANSWERS = auto()
    HANGS = auto()
    """Takes the connection and says nothing."""
    DRIPS = auto()
    """Begins a good answer and goes on with a byte at a time, without an end."""


@dataclass(slots=True)
class KeyServer:
    """What is published where, and in which manner. `asked` has the path of every question."""

    url: str
    documents: dict[str, bytes] = field(default_factory=dict)
    manner: Manner = Manner.ANSWERS
    asked: list[str] = field(default_factory=list)
    question: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each question; tests clear it."""

    def publish(self, *keys: SigningKey) -> None:
        """Replace the key set at /jwks."""
        self.documents["/jwks"] = key_set(*keys)

    def describe(self, **members: object) -> None:
        """Replace the discovery document."""
        document: Mapping[str, object] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **members}
        self.documents["/.well-known/openid-configuration"] = json.dumps(document).encode()


def key_set(*keys: SigningKey) -> bytes:
    return json.dumps({"keys": [key.public_jwk() for key in keys]}).encode()


@asynccontextmanager
async def key_server() -> AsyncIterator[KeyServer]:
    """A server that publishes nothing yet; answers of its last manner are broken off at the end."""
    served = KeyServer("")
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ")[1].decode()
            served.asked.append(path)
            served.question.set()
            await _answer(served, path, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listener:
        served.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield served
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _answer(served: KeyServer, path: str, writer: asyncio.StreamWriter) -> None:
    body = served.documents.get(path)
    status = "404 Not Found" if body is None else "200 OK"
    match served.manner:
        case Manner.ANSWERS:
            content = body or b""
            head = f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + content)
            await writer.drain()
        case Manner.HANGS:
            await asyncio.Event().wait()
        case Manner.DRIPS:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
