from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
import zmq

from sluicegate.server.engine.errors import EngineError, FrontEndGone
from sluicegate.server.engine.messages import LARGEST_COMMAND_BYTES
from sluicegate.server.engine.transport import DealerConnection, RouterPort

PATIENCE_SECONDS = 30.0  # far above what a message on one host takes: a test that waits this long has failed


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory with a short name: the path of a Unix socket holds 107 characters."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def address(directory: Path) -> str:
    return f"ipc://{directory}/engine"


async def receive(connection: DealerConnection, count: int) -> list[bytes]:
    """The next messages that a connection is sent."""
    received: list[bytes] = []
    enough = asyncio.Event()

    def deliver(data: bytes) -> None:
        received.append(data)
        if len(received) == count:
            enough.set()

    reading = asyncio.create_task(connection.receive_into(deliver))
    try:
        await asyncio.wait_for(enough.wait(), PATIENCE_SECONDS)
    finally:
        reading.cancel()
        await asyncio.wait({reading})
    return received


def send_for_ever(port: RouterPort, front_end: str) -> NoReturn:
    while True:
        port.send(front_end, b"x")
        port.receive(0.001)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_directory_that_others_can_enter_is_refused(directory: Path, address: str, mode: int) -> None:
    directory.chmod(mode)

    with pytest.raises(EngineError, match="mode 0700"):
        RouterPort(address)

    assert list(directory.iterdir()) == []


def test_an_address_that_cannot_be_bound_is_an_error_and_leaves_no_socket_open(directory: Path) -> None:
    with pytest.raises(EngineError, match="longer than"):
        RouterPort(f"ipc://{directory}/{'long' * 50}")


async def test_an_address_that_cannot_be_connected_is_an_error_and_leaves_no_socket_open(directory: Path) -> None:
    with pytest.raises(EngineError, match="too long"):
        DealerConnection(f"ipc://{directory}/{'long' * 50}", "front")


def test_without_a_message_receive_returns_in_time(address: str) -> None:
    with closing(RouterPort(address)) as port:
        assert port.receive(0) is None
        assert port.receive(0.01) is None


async def test_messages_arrive_in_order_with_their_sender(address: str) -> None:
    with closing(RouterPort(address)) as port, closing(DealerConnection(address, "front")) as front:
        front.send(b"one")
        front.send(b"two")

        assert port.receive(PATIENCE_SECONDS) == ("front", b"one")
        assert port.receive(PATIENCE_SECONDS) == ("front", b"two")


async def test_what_is_sent_before_the_engine_has_bound_waits_for_it(address: str) -> None:
    with closing(DealerConnection(address, "front")) as front:
        front.send(b"early")

        with closing(RouterPort(address)) as port:
            assert port.receive(PATIENCE_SECONDS) == ("front", b"early")


async def test_each_front_end_gets_its_own_messages(address: str) -> None:
    with (
        closing(RouterPort(address)) as port,
        closing(DealerConnection(address, "one")) as one,
        closing(DealerConnection(address, "two")) as two,
    ):
        one.send(b"hello")
        two.send(b"hello")
        senders = {sender for sender, _ in filter(None, [port.receive(PATIENCE_SECONDS) for _ in range(2)])}

        port.send("two", b"for two")
        port.send("one", b"for one")

        assert senders == {"one", "two"}
        assert await receive(one, 1) == [b"for one"]
        assert await receive(two, 1) == [b"for two"]


async def test_a_slow_front_end_loses_no_message_and_does_not_hold_up_the_engine(address: str) -> None:
    count = 20_000
    with closing(RouterPort(address)) as port, closing(DealerConnection(address, "front")) as front:
        front.send(b"hello")
        port.receive(PATIENCE_SECONDS)

        for number in range(count):
            port.send("front", b"%d" % number)

        assert await receive(front, count) == [b"%d" % number for number in range(count)]


def test_a_message_to_nobody_says_that_the_front_end_is_gone(address: str) -> None:
    with closing(RouterPort(address)) as port, pytest.raises(FrontEndGone, match="nobody"):
        port.send("nobody", b"hello")


async def test_a_message_to_a_front_end_that_has_closed_says_that_it_is_gone(address: str) -> None:
    with closing(RouterPort(address)) as port:
        front = DealerConnection(address, "front")
        front.send(b"hello")
        port.receive(PATIENCE_SECONDS)

        front.close()

        with pytest.raises(FrontEndGone):
            send_for_ever(port, "front")  # the engine's end hears of it only when it looks at the socket again


def test_a_message_of_several_frames_is_dropped(address: str) -> None:
    with closing(RouterPort(address)) as port, zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(address)
        stranger.send_multipart([b"one", b"two"])
        stranger.send(b"three")

        received = port.receive(PATIENCE_SECONDS)

        assert received is not None
        assert received[1] == b"three"


def test_a_message_above_the_limit_never_reaches_the_engine(address: str) -> None:
    with closing(RouterPort(address)) as port, zmq.Context() as context:
        with context.socket(zmq.DEALER) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.connect(address)
            stranger.send(b"x" * (LARGEST_COMMAND_BYTES + 1))
            with context.socket(zmq.DEALER) as other:
                other.connect(address)
                other.send(b"x" * LARGEST_COMMAND_BYTES)

                received = port.receive(PATIENCE_SECONDS)

        assert received is not None
        assert len(received[1]) == LARGEST_COMMAND_BYTES
        assert port.receive(0.05) is None


async def test_closing_with_unsent_messages_and_nobody_there_does_not_wait(address: str) -> None:
    connection = DealerConnection(address, "front")
    connection.send(b"never read")

    connection.close()
    connection.close()


async def test_what_the_engine_sent_before_it_closed_arrives(address: str) -> None:
    with closing(DealerConnection(address, "front")) as front:
        front.send(b"hello")
        with closing(RouterPort(address)) as port:
            port.receive(PATIENCE_SECONDS)
            port.send("front", b"last words")
            reading = asyncio.create_task(receive(front, 1))
        # Closing waits until the message has left.

        assert await reading == [b"last words"]
