"""Telephone numbers, checked against the numbering plans that Google's libphonenumber knows."""

from __future__ import annotations

import phonenumbers
import re2

from sluicegate.server.signals.pii.borders import shortened, stands_alone

INTERNATIONAL = rb"(?:\+|\b00)[ .-]?[1-9](?:[ ()./-]{0,3}[0-9]){6,14}"
NATIONAL: dict[str, tuple[bytes, ...]] = {
    # North America: 212-555-0123, (212) 555-0123, 1 212 555 0123.
    "US": (
        rb"\b(?:1[ .-])?[2-9][0-9]{2}[ ./-][2-9][0-9]{2}[ .-][0-9]{4}\b",
        rb"(?:\b1[ .-]?)?\([2-9][0-9]{2}\)[ .-]{0,2}[2-9][0-9]{2}[ .-][0-9]{4}\b",
    ),
    # United Kingdom: 020 7946 0958, (0161) 496-0123, 07700 900123.
    "GB": (rb"(?:\b0[0-9]{2,4}|\(0[0-9]{2,4}\))[ -][0-9]{3,4}[ -]?[0-9]{3,4}\b",),
    # France: 01 23 45 67 89, in pairs.
    "FR": (rb"\b0[1-9](?:(?: [0-9]{2}){4}|(?:\.[0-9]{2}){4}|(?:-[0-9]{2}){4})\b",),
}
"""Forms by region in which the punctuation shows that it is a telephone number."""
BARE = rb"\b[0-9]{9,15}\b"
"""Digits without punctuation: a telephone number only after a word that says so."""

_INTERNATIONAL = re2.compile(INTERNATIONAL)
_NATIONAL = tuple((region, re2.compile(shape)) for region, shapes in NATIONAL.items() for shape in shapes)
_BARE = re2.compile(BARE)
_CUE = re2.compile(
    rb"(?i)\b(?:tel(?:ephone)?|phone|call|mobile|cell|fax|text|sms|whatsapp|dial)\b[a-z ]{0,14}[.:]?[ ]{0,2}$"
)
_CUE_BEFORE = 32
_GROUPS_TOO_MANY = 2
"""Groups that may follow a number without belonging to it, as the year in +44 20 7946 0958 2019."""


def phone(window: bytes, start: int) -> int | None:
    """The end of the telephone number that begins at `start`, or None."""
    if match := _INTERNATIONAL.match(window, start):
        for end in shortened(window, start, match.end(), _GROUPS_TOO_MANY):
            number = _digits(window[start:end])
            if stands_alone(window, start, end) and _is_assigned("+" + number.removeprefix("00"), None):
                return end
    for region, pattern in _NATIONAL:
        match = pattern.match(window, start)
        if match is None or not stands_alone(window, start, match.end()):
            continue
        if _is_assigned(_digits(match.group()), region):
            return match.end()
    match = _BARE.match(window, start)
    if match and stands_alone(window, start, match.end()) and _CUE.search(window[max(start - _CUE_BEFORE, 0) : start]):
        number = _digits(match.group())
        if any(_is_assigned(number, region) for region in NATIONAL):
            return match.end()
    return None


def _digits(text: bytes) -> str:
    return "".join(character for character in text.decode("ascii") if character.isdigit())


def _is_assigned(number: str, region: str | None) -> bool:
    """Whether the numbering plan has a range for it. The shapes above bound `number`, which keeps this cheap."""
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
