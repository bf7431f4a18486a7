"""One spelling for text that looks the same, so that a zero-width character hides nothing from a recogniser.

Folding looks at one character at a time. So text that comes in pieces folds to the same, however it was cut, and
nothing has to be held back. That is why it is not NFKC, which also composes neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_UNUSUAL = re.compile(r"[^\n\x20-\x7e]+")
_ASCII = bytes.maketrans(b"\t\r\v\f\x1c\x1d\x1e\x1f", b" \n\n\n\n\n\n ")
_ASCII_GONE = bytes(code for code in (*range(0x20), 0x7F) if not chr(code).isspace())
_SPELLED = {
    **dict.fromkeys("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\n"),  # as str.splitlines has them
    **dict.fromkeys("\u2043\u2212", "-"),  # hyphen bullet and minus sign: not of Unicode's class of dashes
    **dict.fromkeys("\u00b7\u3002\uff61", "."),
    **dict.fromkeys("\u2018\u2019\u201b\u02bc", "'"),
}
_KEPT_APART = ("<super>", "<sub>", "<fraction>")
"""Decompositions that would join what is apart: the footnote in 5550123², the fraction in 3½."""
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
"""Default_Ignorable_Code_Point of Unicode 16.0 (DerivedCoreProperties.txt), beside the class Cf."""
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
"""The blocks of combining marks that are laid over Latin, Greek and Cyrillic letters, and over digits."""


def fold(text: str) -> str:
    """The text with plain spaces, hyphens, apostrophes, digits and letters; `fold(a + b) == fold(a) + fold(b)`.

    Gone are zero-width and other invisible characters, soft hyphens, control characters and accents. Full-width,
    circled and mathematical forms become plain ones, digits of all scripts 0 to 9. A line break becomes a line feed,
    other white space a space. Letters of other scripts stay, and so do letters that merely look alike (Cyrillic ones).
    """
    if text.isascii():  # a tenth of the time
        return text.encode("ascii").translate(_ASCII, _ASCII_GONE).decode("ascii")
    return _UNUSUAL.sub(_folded_run, text)


def _folded_run(match: re.Match[str]) -> str:
    return "".join(map(_folded, match[0]))


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    category = unicodedata.category(character)
    if character in _SPELLED:
        plain = _SPELLED[character]
    elif character.isspace():
        plain = " "
    elif category in {"Cc", "Cf"} or _INVISIBLE.match(character) or _MARKS.match(character):
        plain = ""
    elif category == "Pd":
        plain = "-"
    elif category == "Nd":
        plain = str(unicodedata.decimal(character))
    elif unicodedata.decomposition(character).startswith(_KEPT_APART):
        plain = character
    else:
        plain = unicodedata.normalize("NFKD", character)
        plain = plain if plain == character else fold(plain)
    return plain
