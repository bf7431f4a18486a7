"""A score for output that looks recited from training text: zlib's bits over the model's own.

Carlini et al. 2021, "Extracting Training Data from Large Language Models", section 5.1: text that is cheap for the
model and dear for zlib ranks high among what GPT-2 had memorised. Here the ratio is taken over windows of 64 tokens,
because a recited passage may stand in an ordinary text, and zlib knows the text before the window. So a loop of any
length, and what is copied from the prompt, is cheap for both: a model that repeats itself recites nothing.
"""

from __future__ import annotations

import math
import zlib

WINDOW_TOKENS = 64
STRIDE_TOKENS = 32
CONTEXT_CHARACTERS = 4096
"""What zlib knows of prompt and output before the window: about as much as the 1,024 tokens that GPT-2 sees."""
THRESHOLD = 20.0
"""From here on a window is suspect. zlib needs about 4 bits for a character of English, so the model needs 0.2, a third
of the least that English is put at (0.6 to 1.3; Shannon 1951, "Prediction and Entropy of Printed English"). Rates:
bench/README.md."""
LEAST_BITS_PER_CHARACTER = 2.0
"""Below, a window is itself a repetition, and the ratio only says that two small numbers divide."""
_NO_SURPRISE_BITS = 1.0  # keeps the ratio finite where the model was sure of every token

_MOST_CHARACTERS = 4096
"""Of one window: a token of white space can have 128. zlib's work on a window is bounded so."""


class MemorisationScore:
    """Scores one candidate as its tokens come. One task uses it; it keeps 64 tokens and 4,096 characters before them.

    `log_probability` must be the model's own, in nats, before temperature, penalties and filters: a low temperature
    makes every text look certain. Texts of fewer than 64 tokens have no score.
    """

    def __init__(self, prompt: str = "") -> None:
        self._context = prompt[-CONTEXT_CHARACTERS:]
        self._pieces: list[str] = []  # of the window that is being filled
        self._nats: list[float] = []
        self.score: float | None = None
        """The highest ratio of any window that is no repetition; None if there was none."""

    @property
    def is_suspect(self) -> bool:
        """Whether a window so far looks recited."""
        return self.score is not None and self.score >= THRESHOLD

    def add(self, text: str, log_probability: float) -> None:
        """The next token: the text that it released, which may be empty, and its log-probability in nats."""
        self._pieces.append(text)
        self._nats.append(max(-log_probability, 0.0))
        if len(self._pieces) == WINDOW_TOKENS:
            self._look()
            self._context = (self._context + "".join(self._pieces[:STRIDE_TOKENS]))[-CONTEXT_CHARACTERS:]
            del self._pieces[:STRIDE_TOKENS], self._nats[:STRIDE_TOKENS]

    def _look(self) -> None:
        window = "".join(self._pieces)[:_MOST_CHARACTERS]
        if not window:
            return
        deflated_bits = zlib_bits(window, self._context)
        if deflated_bits < LEAST_BITS_PER_CHARACTER * len(window):
            return
        model_bits = math.fsum(self._nats) / math.log(2)
        self.score = max(self.score or 0.0, deflated_bits / max(model_bits, _NO_SURPRISE_BITS))


def zlib_bits(text: str, context: str) -> int:
    """Bits of a raw deflate stream of the text for a reader who knows the context. RFC 1951, without a header."""
    known = context.encode("utf-8", "replace")
    deflate = zlib.compressobj(level=6, wbits=-15, memLevel=5, zdict=known)
    return 8 * len(deflate.compress(text.encode("utf-8", "replace")) + deflate.flush())
