"""A Port without sockets or threads: plays commands to an EngineLoop turn by turn and keeps what it sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from sluicegate.server.engine.errors import FrontEndGone
from sluicegate.server.engine.messages import Command, Event, StepEvents, Stop

FRONT = "front"
Entry = Command | tuple[str, Command | bytes] | Callable[[], None]


class PlayedPort:
    """Each turn's entries come in one turn of the loop, with at least one step of what has work between two turns.

    An entry is a command (from `FRONT`), a command or bytes with their sender, or something to do in between. After
    the last turn the loop runs until it waits, and is stopped; what it says only then is not kept. `gone`: front ends
    that can no longer be reached.
    """

    def __init__(self, *turns: Sequence[Entry]) -> None:
        self._turns = deque(deque(turn) for turn in turns)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(StepEvents)
        self._over = False
        self.gone: set[str] = set()
        self.sent: list[tuple[str, Event]] = []

    def events(self, front_end: str = FRONT) -> list[Event]:
        """What one front end was told, in order."""
        return [event for receiver, event in self.sent if receiver == front_end]

    def receive(self, timeout_seconds: float | None) -> tuple[str, bytes] | None:
        while self._turns:
            turn = self._turns[0]
            while turn:
                entry = turn.popleft()
                if not isinstance(entry, tuple) and callable(entry):
                    entry()
                    continue
                sender, command = entry if isinstance(entry, tuple) else (FRONT, entry)
                return sender, command if isinstance(command, bytes) else self._encoder.encode(command)
            self._turns.popleft()
            if timeout_seconds is not None:
                return None
        if timeout_seconds is not None:
            return None
        self._over = True
        return FRONT, self._encoder.encode(Stop())

    def send(self, front_end: str, data: bytes) -> None:
        if front_end in self.gone:
            raise FrontEndGone(front_end)
        if not self._over:
            self.sent += [(front_end, event) for event in self._decoder.decode(data).events]
