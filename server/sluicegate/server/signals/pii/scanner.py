"""Personal data in a stream of text: the same finds, however the text was cut into pieces."""

from __future__ import annotations

from sluicegate.server.signals.pii.entities import CONTEXT, encoded, next_entity
from sluicegate.server.signals.pii.types import PiiType

BLOCK = 512
"""Characters that are collected before they are looked at: pieces of one token would each cost a search."""
LOOKAHEAD = 192
"""Bytes that decide what begins at a place: the longest shape, an e-mail address of 64 + 1 + 95, and its neighbours."""


class PiiScanner:
    """Looks for personal data in one candidate's text. It keeps less than 1 KiB of it, beside the piece it is fed.

    Text is read left to right. What begins at a place is decided when the LOOKAHEAD after it is there, or the end; so
    a decision never depends on where a piece ended. An entity is told up to BLOCK + LOOKAHEAD characters late.
    """

    def __init__(self) -> None:
        self._unread = ""
        self._window = b""
        self._place = 0  # in the window: what begins before it is decided

    def feed(self, text: str) -> list[PiiType]:
        """The next piece. What became certain with it: one item for each occurrence, none twice."""
        unread = self._unread + text
        if len(unread) < BLOCK:
            self._unread = unread
            return []
        self._unread = ""
        return self._read(unread, is_last=False)

    def end(self) -> list[PiiType]:
        """The text is over, finished or cut off. What was still open. Nothing may be fed afterwards."""
        unread, self._unread = self._unread, ""
        return self._read(unread, is_last=True)

    def _read(self, text: str, *, is_last: bool) -> list[PiiType]:
        window = self._window + encoded(text)
        decidable = len(window) if is_last else max(len(window) - LOOKAHEAD, 0)
        found: list[PiiType] = []
        place = self._place
        while (entity := next_entity(window, place, decidable)) is not None:
            found.append(entity.kind)
            place = entity.end
        place = max(place, decidable)
        kept = max(place - CONTEXT, 0)
        self._window, self._place = window[kept:], place - kept
        return found
