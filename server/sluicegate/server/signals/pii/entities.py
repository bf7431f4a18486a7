"""All recognisers together: which entity comes next in a text, and where one may yet come if the text goes on.

Both look at folded text (folding.py), with a question mark for each character that is not ASCII even then: a border to
all recognisers. An entity depends on the CONTEXT bytes before it, and on the two after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import re2

from sluicegate.server.signals.folding import fold
from sluicegate.server.signals.pii.addresses import EMAIL_RUN, EMAIL_START, IPV4, IPV6, email, ip_address
from sluicegate.server.signals.pii.beginnings import beginnings
from sluicegate.server.signals.pii.borders import JOINT
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

CONTEXT = 32
"""Bytes before a place that decide with it: a word such as version or tel."""

NUMBERS = (
    IBAN,
    CARD,
    *(shape for shape, _ in NATIONAL_IDS.values()),
    IPV4,
    IPV6,
    INTERNATIONAL,
    *(shape for shapes in NATIONAL.values() for shape in shapes),
    BARE,
)
"""Shapes of all entities but e-mail addresses."""


def _either(patterns: tuple[bytes, ...]) -> bytes:
    return b"(?:" + b"|".join(b"(?:" + pattern + b")" for pattern in patterns) + b")"


_SHAPES = re2.compile(_either((EMAIL_START, *NUMBERS)))
_OPEN = re2.compile(_either((beginnings(EMAIL_RUN), *(beginnings(shape + JOINT + b"?") for shape in NUMBERS))) + rb"\z")
"""What may yet become an entity, up to the end. A joint behind a number leaves open whether more of it follows."""
_RUN = re2.compile(rb"[0-9A-Za-z._%+'@-]*")


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity at window[start:end]."""

    kind: PiiType
    start: int
    end: int


def encoded(text: str) -> bytes:
    """The text as recognisers read it, one byte a character of its folded form."""
    return fold(text).encode("ascii", "replace")


def next_entity(window: bytes, place: int, before: int) -> Entity | None:
    """The first entity that begins at `place` or behind it, and before `before`."""
    while place < before:
        shape = _SHAPES.search(window, place)
        if shape is None or (start := shape.start()) >= before:
            break
        for kind, recognise in RECOGNISERS:
            if (end := recognise(window, start)) is not None:
                return Entity(kind, start, end)
        place = start + 1
    return None


def first_open(window: bytes, place: int) -> int:
    """The first place, from `place` on, where it depends on what follows the window whether an entity begins, or which.

    The length of the window if that is decided for every place in it.
    """
    found = _OPEN.search(window, place)
    assert found is not None  # nothing, at least
    return int(found.start())


def end_of_run(window: bytes, start: int) -> int:
    """The end of the run that begins at `start`, of characters that e-mail addresses are made of."""
    found = _RUN.match(window, start)
    assert found is not None  # nothing, at least
    return int(found.end())
