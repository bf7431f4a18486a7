"""Meets the phrases of a lexicon in a stream of text."""

from __future__ import annotations

from sluicegate.server.signals.folding import fold
from sluicegate.server.signals.lexicon import TOKEN, Lexicon, Phrases

BLOCK = 512
"""Characters that are collected before they are looked at, unless the answer is wanted at once."""


class LexiconScanner:
    """Tells the categories that one candidate's text meets: one item for each place where a phrase stands.

    Words are compared whole, folded and without regard to case; between the words of a phrase may stand anything but
    the end of a sentence. So a word counts once what follows shows that it is over, or the text ends: with `at_once`
    a phrase is told by the piece that brings the character after it. Without it, by up to BLOCK characters later, at
    a tenth of the cost. The finds are the same either way, however the text was cut.

    Each word is looked up once for each phrase that is under way, of which a lexicon's file allows fewer than 96. It
    keeps one block or unfinished word.
    """

    def __init__(self, lexicon: Lexicon, *, at_once: bool = False) -> None:
        self._first = lexicon.phrases.next
        self._kept = lexicon.longest_word + 1  # of a longer word, what shows that it is none of the lexicon's
        self._block = 0 if at_once else BLOCK
        self._unread = ""
        self._word = ""  # not over yet; folded
        self._under_way: list[Phrases] = []  # where each phrase that could go on stands after the last word

    def feed(self, text: str) -> list[str]:
        """The next piece. Categories of the phrases that are complete with it."""
        unread = self._unread + text
        if len(unread) < self._block:
            self._unread = unread
            return []
        self._unread = ""
        return self._read(unread)

    def end(self) -> list[str]:
        """The text is over, finished or cut off, and its last word with it. Nothing may be fed afterwards."""
        unread, self._unread = self._unread, ""
        return self._read(unread + "\n")

    def _read(self, text: str) -> list[str]:
        text = self._word + fold(text).casefold()
        tokens = TOKEN.findall(text)
        self._word = tokens.pop()[: self._kept] if tokens and text[-1:].isalnum() else ""
        first, under_way = self._first, self._under_way
        found: list[str] = []
        for token in tokens:
            if not under_way and token not in first:
                continue
            reached = [node for phrase in under_way if (node := phrase.next.get(token)) is not None]
            if (start := first.get(token)) is not None:
                reached.append(start)
            found += [node.ends for node in reached if node.ends is not None]
            under_way = [node for node in reached if node.next]
        self._under_way = under_way
        return found
