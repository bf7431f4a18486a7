"""What requests came to: how they ended, how long each part took, and how much there was in each second."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from sluicegate.client.load.histogram import Histogram


@dataclass(slots=True)
class Tally:
    """Requests of one kind. All times in seconds.

    Every request that was begun is answered, cancelled (as it was to be) or refused, or was under way when the run was
    interrupted. `refused` counts by reason every status that is not OK, whether or not tokens came before.
    """

    begun: int = 0
    answered: int = 0
    cancelled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    output_tokens: int = 0
    first_token: Histogram = field(default_factory=Histogram)
    """From when the request was due to its first token."""
    inter_token: Histogram = field(default_factory=Histogram)
    """From one message with tokens to the next of the same stream: what a reader waits."""
    per_output_token: Histogram = field(default_factory=Histogram)
    """Of each stream with two tokens or more: from its first message with tokens to its last, for each token since."""
    whole: Histogram = field(default_factory=Histogram)
    """From when the request was due to its end; of those that were answered."""
    queue: Histogram = field(default_factory=Histogram)
    """As the server states it: until the request held a slot."""

    def add(self, other: Self) -> None:
        """Count all of the other too."""
        self.begun += other.begun
        self.answered += other.answered
        self.cancelled += other.cancelled
        self.refused.update(other.refused)
        self.finish_reasons.update(other.finish_reasons)
        self.output_tokens += other.output_tokens
        self.first_token.add(other.first_token)
        self.inter_token.add(other.inter_token)
        self.per_output_token.add(other.per_output_token)
        self.whole.add(other.whole)
        self.queue.add(other.queue)

    @property
    def unfinished(self) -> int:
        """Under way when the run was interrupted."""
        return self.begun - self.answered - self.cancelled - self.refused.total()


class Throughput:
    """Output tokens and ended requests between two moments, and tokens in each whole second of them."""

    def __init__(self, opens: float, closes: float) -> None:
        """`closes`: infinite where nobody knows yet; `close` then says it."""
        self._opens = opens
        self._closes = closes
        self._second = 0
        self._tokens_of_second = 0
        self.output_tokens = 0
        self.requests = 0
        self.per_second = Histogram()

    @property
    def seconds(self) -> float:
        """Between the two moments; 0 if the run ended before the first."""
        return max(self._closes - self._opens, 0.0)

    def tokens(self, at: float, count: int) -> None:
        """So many tokens came. Moments never go back."""
        if self._opens <= at < self._closes:
            self._pass_to(at)
            self.output_tokens += count
            self._tokens_of_second += count

    def request(self, at: float) -> None:
        """A request ended as it should."""
        self.requests += self._opens <= at < self._closes

    def close(self, at: float) -> None:
        """Nothing comes after this moment."""
        self._closes = min(self._closes, at)
        if self._closes > self._opens:
            self._pass_to(self._closes)

    def _pass_to(self, at: float) -> None:
        """Count the seconds that are over, those without a token too."""
        second = math.floor(at - self._opens)
        if second > self._second:
            self.per_second.record(self._tokens_of_second)
            if (empty := second - self._second - 1) > 0:
                self.per_second.record(0, empty)
            self._second, self._tokens_of_second = second, 0
