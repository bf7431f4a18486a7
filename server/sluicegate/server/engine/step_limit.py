"""How much a step may feed when memory is short.

The KV cache is allocated when a model is loaded, so that no sequence can outgrow it. What varies is the memory of a
step's activations and logits, with the tokens that it feeds: a step that runs out of it can be had in smaller pieces.
"""

from __future__ import annotations

# After a halving it takes 45 steps until one as large as that which failed is tried again: where memory stays short,
# about one step in 45 is run in vain.
GROWTH = 1 + 1 / 64

# A step of a single token that fails may still succeed when another process has given memory back.
LONE_FAILURES = 3


class StepLimit:
    """Halved when a step runs out of memory; grows back with each that does not (as congestion windows: Jacobson 1988).

    `largest`: tokens of the largest step that is ever asked for.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._tokens = float(largest)
        self._lone_failures = 0

    @property
    def tokens(self) -> int:
        """Most tokens that the next step may feed: 1 to `largest`."""
        return int(self._tokens)

    @property
    def is_lowered(self) -> bool:
        """Whether memory is short."""
        return self.tokens < self._largest

    def shrink(self, fed: int) -> bool:
        """A step that fed so many tokens ran out of memory. False: it was one, again and again, and cannot be less."""
        self._tokens = max(fed // 2, 1)
        self._lone_failures = self._lone_failures + 1 if fed == 1 else 0
        if self._lone_failures < LONE_FAILURES:
            return True
        self._lone_failures = 0
        return False

    def grow(self) -> None:
        """A step succeeded."""
        self._tokens = min(self._tokens * GROWTH, self._largest)
        self._lone_failures = 0
