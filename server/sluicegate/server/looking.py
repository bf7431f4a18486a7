"""What the watcher's thread does with a text: look for signals in it, and count them. Of that thread only.

A text is forgotten when its call is over; what stays are counts, and fingerprints in the sketches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.request import Prompt
from sluicegate.server.signals import Lexicon, LexiconScanner, MemorisationScore, Scanner
from sluicegate.server.signals.sketches import Sketches
from sluicegate.server.tokenizer import Tokenizer

COMPARED_CHARACTERS = 8_192
"""Of an output, as far as it is compared with others."""

Piece = tuple[str, float | None]
"""Text that one token released, and the token's log-probability (natural logarithm), where that is known."""


@dataclass(frozen=True, slots=True)
class Looking:
    """What is looked for. `personal_data` makes a recogniser for one output; `clock` gives Unix seconds."""

    sketches: Sketches
    metrics: Metrics
    lexicon: Lexicon
    personal_data: Callable[[], Scanner]
    with_memorisation: bool
    clock: Callable[[], float]

    def generation(
        self, partner: str, model: str, prompt: Prompt, tokenizer: Tokenizer, *, candidates: int
    ) -> GenerationLook:
        """Look at one generation; `partner` and `model` are labels."""
        return GenerationLook(self, partner, model, prompt, tokenizer, candidates=candidates)


class GenerationLook:
    """One generation: its prompt, then each candidate's output as it comes."""

    def __init__(
        self, looking: Looking, partner: str, model: str, prompt: Prompt, tokenizer: Tokenizer, *, candidates: int
    ) -> None:
        self._looking = looking
        self._partner = partner
        self._model = model
        self._prompt = prompt
        self._tokenizer = tokenizer
        self._candidates = candidates

    @cached_property
    def _text(self) -> str:
        prompt = self._prompt
        return prompt if isinstance(prompt, str) else self._tokenizer.decode(prompt).decode(errors="replace")

    @cached_property
    def _outputs(self) -> list[_Output]:
        """Made with the first text: an output is looked at even where its prompt was left out."""
        return [_Output(self._looking, self._text) for _ in range(self._candidates)]

    def see_prompt(self) -> None:
        """Compare the prompt with the partner's others."""
        looking = self._looking
        is_duplicate = looking.sketches.see_prompt(self._partner, self._text, looking.clock())
        looking.metrics.signals.take_prompt(self._partner, is_duplicate=is_duplicate)

    def feed(self, candidate: int, pieces: Sequence[Piece]) -> None:
        """What has left for the caller since the last time."""
        self._count(*self._outputs[candidate].feed(pieces))

    def end(self) -> None:
        """The generation is over, however it ended."""
        signals, looking = self._looking.metrics.signals, self._looking
        for output in self._outputs:
            self._count(*output.end())
            if not output.compared:
                continue
            is_duplicate = looking.sketches.see_output(self._partner, output.compared, looking.clock())
            signals.take_output(self._partner, is_duplicate=is_duplicate)
            if output.is_suspect:
                signals.take_memorisation_suspect(self._model)

    def _count(self, kinds: Sequence[str], categories: Sequence[str]) -> None:
        signals = self._looking.metrics.signals
        for kind in kinds:
            signals.take_pii(self._partner, kind)
        for category in categories:
            signals.take_flagged(self._partner, category)


class _Output:
    """One candidate's output."""

    def __init__(self, looking: Looking, prompt: str) -> None:
        self.compared = ""
        self._personal_data = looking.personal_data()
        self._flags = LexiconScanner(looking.lexicon)
        self._memorisation = MemorisationScore(prompt) if looking.with_memorisation else None

    @property
    def is_suspect(self) -> bool:
        return self._memorisation is not None and self._memorisation.is_suspect

    def feed(self, pieces: Sequence[Piece]) -> tuple[Sequence[str], Sequence[str]]:
        """The kinds of personal data and the categories of the lexicon that were met."""
        text = "".join(text for text, _ in pieces)
        self.compared += text[: COMPARED_CHARACTERS - len(self.compared)]
        if self._memorisation is not None:
            for released, logprob in pieces:
                if logprob is not None:
                    self._memorisation.add(released, logprob)
        return self._personal_data.feed(text), self._flags.feed(text)

    def end(self) -> tuple[Sequence[str], Sequence[str]]:
        """The same, of what was still open."""
        return self._personal_data.end(), self._flags.end()
