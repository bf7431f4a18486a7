"""What of a text counts for its fingerprint: not its case, numbers, addresses and names, which a template changes."""

from __future__ import annotations

import re

LOOKED_AT_CHARACTERS = 8_192
"""Of any text; what comes after has no part in its fingerprint. GPT-2's context seldom holds 5,000 characters."""

_NUMBER = re.compile(r"\d[\d.,:/-]*")
_NAME = re.compile(r"(?<=[a-z,;:] )[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")


def normalised(text: str) -> str:
    """The beginning of a text in lower case, with fixed words in the place of numbers, web and mail addresses, names.

    A name is a run of words with a capital that follows a word in small letters; `dear Anna Adams` and `dear Ben` end
    alike. In a title nearly all words have capitals: a text of which less than half would be left keeps them. Every
    pattern runs in linear time, whatever the text.
    """
    text = text[:LOOKED_AT_CHARACTERS].replace("\u2019", "'")
    if "@" in text or "://" in text or "www." in text:
        text = " ".join(_without_address(word) for word in text.split())
    without_names = _NAME.sub("Name", text)
    if 2 * len(without_names) >= len(text):
        text = without_names
    return _NUMBER.sub("0", text.lower()).replace("'", "")


def _without_address(word: str) -> str:
    if "@" in word.strip("@"):
        return "mail"
    return "url" if "://" in word or word.startswith("www.") else word
