"""Stop sequences across token borders."""

from __future__ import annotations

from collections.abc import Sequence


class StopSequences:
    """Passes text on until one of the stop sequences is complete; holds back what could still become one.

    The sequence whose last character comes first wins (of several ending there, the longest), so the cut does not
    depend on how the text was split. The hold-back is shorter than the longest sequence.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(sequences)
        self._held = ""
        self.matched: str | None = None  # the sequence that was met; nothing passes after it

    def feed(self, text: str) -> str:
        """Text that is safe to pass on."""
        if self.matched is not None:
            return ""
        if not self._sequences:
            return text
        self._held += text
        ends = [
            (start + len(sequence), start, sequence)
            for sequence in self._sequences
            if (start := self._held.find(sequence)) >= 0
        ]
        if ends:
            _, start, self.matched = min(ends)
            passed, self._held = self._held[:start], ""
            return passed
        keep = max(self._overlap(sequence) for sequence in self._sequences)
        passed, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return passed

    def flush(self) -> str:
        """What was held back, at the end of the output."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, sequence: str) -> int:
        """Length of the longest end of the held text that begins `sequence`."""
        for length in range(min(len(sequence) - 1, len(self._held)), 0, -1):
            if self._held.endswith(sequence[:length]):
                return length
        return 0
