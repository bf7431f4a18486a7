"""One candidate of a generation: tokens in, guarded text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sluicegate.server.engine import messages
from sluicegate.server.guard import Redaction, TextStream
from sluicegate.server.output import Delta, FinishReason
from sluicegate.server.signals import LexiconScanner, PiiType


class Candidate:
    """Book-keeping of one candidate's output. Its generation uses it.

    `observe` is told of all text as it comes, with the log-probability of the token that completed it; `flags` ends the
    candidate when its text is flagged; `redaction` takes personal data out of what leaves.
    """

    def __init__(
        self,
        stop_sequences: tuple[str, ...],
        observe: Callable[[str, float | None], None],
        flags: LexiconScanner | None,
        redaction: Redaction | None,
    ) -> None:
        self.text = TextStream(stop_sequences, self._see, redaction)
        self._redaction = redaction
        self._observe = observe
        self._flags = flags
        self._is_flagged = False
        self._logprob: float | None = None
        self.finished: FinishReason | None = None
        self.output_tokens = 0
        self._released: list[str] = []
        self._tokens: list[messages.Token] = []

    @property
    def stopped(self) -> FinishReason | None:
        """What its own text ended it by."""
        if self._is_flagged:
            return FinishReason.FLAGGED
        return FinishReason.STOP_SEQUENCE if self.text.stop_sequence is not None else None

    @property
    def redactions(self) -> Counter[PiiType]:
        """Personal data that was taken out of its text so far."""
        return Counter() if self._redaction is None else self._redaction.counts

    def feed(self, token: messages.Token, data: bytes) -> None:
        """Its next token, with the token's bytes."""
        self.output_tokens += 1
        self._logprob = token.logprob
        released = self.text.feed(data)
        if not self._is_flagged:
            self._released.append(released)
            self._tokens.append(token)

    @property
    def stop_sequence(self) -> str | None:
        """The one that it met, where that ended it."""
        return None if self._is_flagged else self.text.stop_sequence

    def finish(self, reason: FinishReason) -> None:
        """It is over, by its own limits: for this reason, unless its text turns out to be flagged."""
        self._release_all()
        self.finished = FinishReason.FLAGGED if self._is_flagged else reason

    def break_off(self) -> None:
        """Another end than its own. What redaction held back stays back: there is no end to decide by."""
        if self._redaction is None:
            self._release_all()

    def _release_all(self) -> None:
        """Let go what was held back: nothing comes after it."""
        if self._is_flagged:
            return
        self._logprob = None
        released = self.text.flush()
        if self._flags is not None and self._flags.end():
            self._is_flagged = True
        if not self._is_flagged:
            self._released.append(released)

    def take(self, index: int, shown: Callable[[Sequence[messages.Token]], tuple[messages.Token, ...]]) -> Delta | None:
        """What may leave now, as one Delta; None if there is nothing."""
        text, tokens = "".join(self._released), shown(self._tokens)
        self._released, self._tokens = [], []
        return Delta(index, text, tokens) if text or tokens else None

    def _see(self, text: str) -> None:
        """Characters as they come, before anything of them is held back: tokens may be shown before their text."""
        self._observe(text, self._logprob)
        if self._flags is not None and self._flags.feed(text):
            self._is_flagged = True
