"""Whole characters out of token bytes: GPT-2's byte-level BPE splits characters between tokens."""

from __future__ import annotations

import codecs


class Utf8Stream:
    """Turns a candidate's token bytes into text, holding back the bytes of a character that is not complete yet.

    Bytes that can never become a character turn into U+FFFD, one for each maximal invalid part (Unicode 16.0, section
    3.9, the practice of WHATWG and of Python's decoder), so the text is the same however the bytes were cut.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """Text that these bytes complete."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Text of what was held back: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)
