"""How much of a prompt a step reads beside running streams, which pause for as long as the step lasts.

It follows from what steps have taken so far, so that it suits every model, batch and machine: a step with a prompt in
it is to last at most so many times as long (STRETCH) as one that only feeds streams. Those whose prompts are being read
count as if they ran already: where many come at once, the first of them do not hold the others up for a pace that they
lose when the last is there.
"""

from __future__ import annotations

from typing import NamedTuple

STRETCH = 1.8
"""What a step with a prompt may last, over one of all streams alone. Callers see 2 where a step in a while is late."""
UNMEASURED_SHARE = 0.5
"""Of a step's tokens, while it is not known what steps take."""
_WEIGHT, _WEIGHT_OF_MORE = 0.1, 0.5
"""Of the latest step in a mean; the second where a token of a prompt cost more than in the mean. The further a prompt
is read, the more each of its tokens costs: it looks at all that stand before it."""
_OUTLIER = 2.0
"""A step counts as no more than so many times the mean: what interrupts one step says nothing of the next."""


class Point(NamedTuple):
    """The mean of some steps."""

    rows: float
    seconds: float


class PromptShare:
    """Measures steps, and says how many tokens of prompts the next one may read. Durations are in seconds.

    `step_tokens`: most tokens of a step.
    """

    def __init__(self, step_tokens: int) -> None:
        self._step_tokens = step_tokens
        self._decoding: dict[int, Point] = {}  # steps without a prompt, by the bits of the number of rows
        self._token: float | None = None  # what a token of a prompt adds to a step, rather too much than too little

    def tokens(self, rows: int, streams: int) -> int:
        """Most prompt tokens beside so many decode rows; `step_tokens` where there are none. `streams`: those that
        decode now, and those that will when their prompts are read."""
        if not rows:
            return self._step_tokens
        decoding, pace = self._without_prompt(rows), self._without_prompt(max(rows, streams))
        if not decoding or not pace or not self._token:
            return int(self._step_tokens * UNMEASURED_SHARE)
        return min(int((STRETCH * max(pace, decoding) - decoding) / self._token), self._step_tokens)

    def measure(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """Take what a step took that fed so many decode rows and prompt tokens."""
        if seconds <= 0:
            return
        if not rows:
            if self._token is None and prompt_tokens:
                self._token = seconds / prompt_tokens
        elif not prompt_tokens:
            bits = rows.bit_length()
            point = self._decoding.get(bits, Point(rows, seconds))
            self._decoding[bits] = Point(_mean(point.rows, rows, _WEIGHT), _mean(point.seconds, seconds, _WEIGHT))
        elif (decoding := self._without_prompt(rows)) is not None:
            token = max(seconds - decoding, 0.0) / prompt_tokens
            mean = token if self._token is None else self._token
            self._token = _mean(mean, token, _WEIGHT_OF_MORE if token > mean else _WEIGHT)

    def _without_prompt(self, rows: int) -> float | None:
        """What a step of so many rows takes, between those that were measured; the longest where all had fewer. None:
        not known, since all had more."""
        points = sorted(self._decoding.values())
        below = max((point for point in points if point.rows <= rows), default=self._decoding.get(rows.bit_length()))
        if below is None:
            return None
        above = next((point for point in points if point.rows > max(rows, below.rows)), below)
        if above == below:
            return below.seconds
        share = (rows - below.rows) / (above.rows - below.rows)
        return below.seconds + max(share, 0.0) * (above.seconds - below.seconds)


def _mean(mean: float, latest: float, weight: float) -> float:
    if not mean:
        return latest
    return mean + weight * (min(latest, _OUTLIER * mean) - mean)
