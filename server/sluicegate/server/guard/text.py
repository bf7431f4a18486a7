"""The whole way of one candidate's text, in order: bytes, characters, stop sequences, redaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluicegate.server.guard.redaction import Redaction
from sluicegate.server.guard.stops import StopSequences
from sluicegate.server.guard.utf8 import Utf8Stream


class TextStream:
    """What a caller may see of one candidate's bytes, as early as it may see it."""

    def __init__(
        self,
        stop_sequences: Sequence[str],
        on_characters: Callable[[str], None] = lambda _: None,
        redaction: Redaction | None = None,
    ) -> None:
        """`on_characters` hears of all text in whole characters, and of what a stop sequence holds back or cuts off.

        Stop sequences are looked for in the model's text: one that is met ends it before it is redacted.
        """
        self._on_characters = on_characters
        self._redaction = redaction
        self._utf8 = Utf8Stream()
        self._stops = StopSequences(stop_sequences)

    @property
    def stop_sequence(self) -> str | None:
        """The stop sequence that was met; the candidate is over then."""
        return self._stops.matched

    def feed(self, data: bytes) -> str:
        """Text that one token's bytes release."""
        text = self._stops.feed(self._heard(self._utf8.feed(data)))
        return text if self._redaction is None else self._redaction.feed(text)

    def flush(self) -> str:
        """Text still held back when the candidate ends. Nothing after a stop sequence."""
        tail = self._stops.feed(self._heard(self._utf8.flush())) + self._stops.flush()
        return tail if self._redaction is None else self._redaction.feed(tail) + self._redaction.end()

    def _heard(self, characters: str) -> str:
        self._on_characters(characters)
        return characters
