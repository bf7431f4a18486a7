"""Personal data taken out of a stream of text, before any of it has left."""

from __future__ import annotations

from collections import Counter

from sluicegate.server.signals.pii import (
    CONTEXT,
    LONGEST_ENTITY,
    PiiType,
    encoded,
    end_of_run,
    first_open,
    next_entity,
)

HOLD_BACK = LONGEST_ENTITY
"""Characters that wait to be decided on, at most."""


class Redaction:
    """Puts `[EMAIL]` and the like in the place of personal data in one candidate's text. One task uses it.

    Text waits from the first place on at which it depends on what follows whether an entity begins there. If such text
    outgrows the hold-back, the run that it is in is taken out whole, as an e-mail address. So nothing of an entity ever
    passes, and what passes does not depend on how the text was cut into pieces.

    Characters are counted as folded. Those that fold to nothing, as zero-width ones, stay with the one before them.
    """

    def __init__(self) -> None:
        self.counts: Counter[PiiType] = Counter()
        """What was taken out."""
        self._window = b""  # as recognisers read it: context, then what is not decided on
        self._characters: list[str] = []  # for each byte of the window the characters that are over with it
        self._place = 0  # in the window: what begins before it is decided on
        self._settled = 0  # what stands before it was passed on or taken out
        self._is_taken = False  # what was settled last was taken out
        self._is_in_run = False  # it was a run, which reaches to the end of the window
        self._passed: list[str] = []

    def feed(self, text: str) -> str:
        """What may be passed on with this piece."""
        self._append(text)
        self._decide(is_last=False)
        return self._take()

    def end(self) -> str:
        """What was held back, for the text ends here, and an end is a border. Nothing may be fed afterwards."""
        self._decide(is_last=True)
        return self._take()

    def _append(self, text: str) -> None:
        if text.isascii() and text.isprintable():  # folds to itself: half of the time
            self._window += text.encode("ascii")
            self._characters += text
        else:
            for character in text:
                self._append_character(character)
        if self._is_in_run:
            self._settled = self._end_of_run(self._settled)

    def _append_character(self, character: str) -> None:
        folded = encoded(character)
        if folded:
            self._window += folded
            self._characters += [""] * (len(folded) - 1) + [character]
        elif self._settled < len(self._window):
            self._characters[-1] += character
        elif not self._is_taken:
            self._passed.append(character)

    def _decide(self, *, is_last: bool) -> None:
        while True:
            view = self._window[: self._place + HOLD_BACK + 1]  # no more, lest it depend on how long the piece is
            open_from = len(view) if is_last else first_open(view, self._place)
            entity = next_entity(view, self._place, open_from)
            if entity is not None:
                self._take_out(entity.kind, entity.start, entity.end)
                self._place = entity.end
            elif len(view) - open_from > HOLD_BACK:  # no other entity gets as long as an e-mail address
                self._take_out(PiiType.EMAIL, self._place, self._end_of_run(self._place))
                self._place += 1
            else:
                self._pass_on(open_from)
                self._place = open_from
                if len(view) == len(self._window):
                    break

    def _end_of_run(self, start: int) -> int:
        end = end_of_run(self._window, start)
        self._is_in_run = end == len(self._window)
        return self._whole(end)

    def _whole(self, end: int) -> int:
        """The end of the character that this byte border is in: one that folds to several goes out whole."""
        while not self._characters[end - 1]:
            end += 1
        return end

    def _take_out(self, kind: PiiType, start: int, end: int) -> None:
        end = self._whole(end)
        if end > self._settled:
            self._pass_on(start)
            self._passed.append(f"[{kind.name}]")
            self._settled, self._is_taken = end, True
            self.counts[kind] += 1

    def _pass_on(self, end: int) -> None:
        if end > self._settled:
            self._passed += self._characters[self._settled : end]
            self._settled, self._is_taken = end, False

    def _take(self) -> str:
        passed = "".join(self._passed)
        self._passed.clear()
        kept = max(self._place - CONTEXT, 0)
        self._window, self._characters = self._window[kept:], self._characters[kept:]
        self._place -= kept
        self._settled -= kept
        return passed
