"""Personal data in a stream of text: the same finds, however the text was cut into pieces."""

from __future__ import annotations

from collections.abc import Callable

import re2

from sluicegate.server.signals.folding import fold
from sluicegate.server.signals.pii.addresses import EMAIL_START, IPV4, IPV6, email, ip_address
from sluicegate.server.signals.pii.numbers import CARD, IBAN, NATIONAL_IDS, card, iban, national_id
from sluicegate.server.signals.pii.phones import BARE, INTERNATIONAL, NATIONAL, phone
from sluicegate.server.signals.pii.types import PiiType

Recogniser = Callable[[bytes, int], int | None]
RECOGNISERS: tuple[tuple[PiiType, Recogniser], ...] = (
    (PiiType.EMAIL, email),
    (PiiType.IBAN, iban),
    (PiiType.CARD, card),
    (PiiType.NATIONAL_ID, national_id),
    (PiiType.IP_ADDRESS, ip_address),
    (PiiType.PHONE, phone),
)
"""Asked in this order where several could begin at one place; the first that says yes has it."""

BLOCK = 512
"""Characters that are collected before they are looked at: pieces of one token would each cost a search."""
LOOKAHEAD = 192
"""Bytes that decide what begins at a place: the longest shape, an e-mail address of 64 + 1 + 95, and its neighbours."""
CONTEXT = 32
"""Bytes before a place that decide with it: a word such as version or tel."""

_SHAPES = re2.compile(
    b"|".join(
        b"(?:" + shape + b")"
        for shape in (
            EMAIL_START,
            IBAN,
            CARD,
            *(shape for shape, _ in NATIONAL_IDS.values()),
            IPV4,
            IPV6,
            INTERNATIONAL,
            *(shape for shapes in NATIONAL.values() for shape in shapes),
            BARE,
        )
    )
)


class PiiScanner:
    """Looks for personal data in one candidate's text. It keeps less than 1 KiB of it, beside the piece it is fed.

    Text is read left to right. What begins at a place is decided when the LOOKAHEAD after it is there, or the end; so
    a decision never depends on where a piece ended. An entity is told up to BLOCK + LOOKAHEAD characters late.
    """

    def __init__(self) -> None:
        self._unread = ""
        self._window = b""  # folded; what is not ASCII even then is a question mark, which is a border to all
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
        window = self._window + fold(text).encode("ascii", "replace")
        decidable = len(window) if is_last else max(len(window) - LOOKAHEAD, 0)
        found: list[PiiType] = []
        place = max(_find(window, self._place, decidable, found), decidable)
        kept = max(place - CONTEXT, 0)
        self._window, self._place = window[kept:], place - kept
        return found


def _find(window: bytes, place: int, decidable: int, found: list[PiiType]) -> int:
    """Appends to `found` what begins from `place` on and before `decidable`; returns where the last one ends."""
    while place < decidable:
        shape = _SHAPES.search(window, place)
        if shape is None or shape.start() >= decidable:
            break
        start = shape.start()
        place = start + 1
        for kind, recognise in RECOGNISERS:
            end = recognise(window, start)
            if end is not None:
                found.append(kind)
                place = end
                break
    return place
