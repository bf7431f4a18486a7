"""How many tokens to draft: as many as give the most tokens a second, by what was measured; none if that is best.

With k drafts a step gives a sequence 1 + a + a² + … + a^k tokens, where a is the chance that a draft is accepted if all
before it were (Leviathan et al. 2023, "Fast inference from transformers via speculative decoding", equation 1). It
takes longer by the drafting, and by its rows, one for each draft beside one for each sequence: a step of few rows is
bound by reading the weights, one of many by arithmetic. So the chances are kept by sequence, the seconds by rows, those
of drafting by sequences that are drafted for; and the quotient decides, as the goodput of Liu et al. 2024, "Optimizing
speculative decoding for serving large language models using goodput".

Tokens a second rise with the number of drafts and then fall, so that the best is found by trying one more while that
helps, and kept by looking now and then at one more or one less. No text depends on any of it: see speculation.py.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

TRIALS = 2  # measurements before a time counts as known
RECENT_TIMES = 16  # measurements that count
SHORTEST_SECONDS = 1e-6  # a clock may not have moved
LEAST_GAIN = 1.05  # of drafts over none: less may be none, since times vary by as much
PRIOR_DRAFTS = 4  # a sequence counts as the others do until it has checked more drafts than these
RECENT_DRAFTS, RECENT_DRAFTS_OF_ALL = 32, 512  # what counts twice as much as what was before
LOOK_STEPS = 4  # that a look lasts: a draft model may first have to read what it missed
SHORTEST_WAIT, LONGEST_WAIT = 128, 1_024  # steps between two looks: twice as many after each that changed nothing


def most_productive(seconds: Sequence[float], acceptances: Iterable[float], others: int = 0) -> int:
    """The number of drafts with the most tokens a second, the smallest of equal ones; 0 unless that is LEAST_GAIN more.

    `seconds[k]`: how long a step with k drafts takes, drafting included; `acceptances`: of the sequences that get them;
    `others`: sequences in the step that get none.
    """
    gains = [0.0] * len(seconds)  # tokens of the k-th draft
    for acceptance in acceptances:
        chance = 1.0
        for drafts in range(len(seconds)):
            gains[drafts] += chance
            chance *= acceptance
    rates = [
        (others + tokens) / max(taken, SHORTEST_SECONDS)
        for tokens, taken in zip(accumulate(gains), seconds, strict=True)
    ]
    rates[0] *= LEAST_GAIN
    return rates.index(max(rates))


@dataclass(slots=True)
class Acceptance:
    """Drafts that were checked, and those of them that were accepted; older ones count less."""

    accepted: float = 0.0
    checked: float = 0.0

    def add(self, accepted: int, checked: int, recent: int) -> None:
        """Note drafts of a step."""
        self.accepted += accepted
        self.checked += checked
        if self.checked > 2 * recent:
            self.accepted /= 2
            self.checked /= 2

    def estimate(self, prior: float, weight: float) -> float:
        """The chance of a draft, as if `weight` more had been checked and `prior` of them accepted."""
        return (self.accepted + weight * prior) / (self.checked + weight)


class RecentTime:
    """Seconds that something takes: the mean of the faster three quarters of the last measurements.

    One that was much slower than its like tells of the machine: the first of its kind, or interrupted.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_TIMES)
        self.seconds = 0.0

    @property
    def is_known(self) -> bool:
        """Whether it was measured often enough to go by."""
        return len(self._recent) >= TRIALS or self.seconds == math.inf

    def add(self, seconds: float) -> None:
        """Note a measurement. Infinite: there was no memory for it; what was before it counts no more, or after it."""
        if math.inf in (seconds, self.seconds):
            self._recent.clear()
        self._recent.append(seconds)
        faster = sorted(self._recent)[: max(3 * len(self._recent) // 4, 1)]
        self.seconds = sum(faster) / len(faster)


@dataclass(slots=True)
class _Look:
    """When to look at one draft more or less than the best, for steps of one size."""

    best: int = 0
    steps: int = 0  # since the last look
    wait: int = SHORTEST_WAIT
    at_more: bool = True


class Lookahead:
    """Chooses the number of drafts, 0..most, for each step of one model. Engine thread only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._all = Acceptance()
        self._sequences: dict[int, Acceptance] = {}
        self._steps: defaultdict[int, RecentTime] = defaultdict(RecentTime)  # by rows
        self._drafting: defaultdict[int, RecentTime] = defaultdict(RecentTime)  # of one draft each, by sequences
        self._looks: defaultdict[int, _Look] = defaultdict(_Look)  # by sequences in a step

    def open(self, slot: int) -> None:
        """A sequence of which nothing is known takes a slot."""
        self._sequences[slot] = Acceptance()

    def close(self, slot: int) -> None:
        """It leaves."""
        del self._sequences[slot]

    def choose(self, sequences: int, slots: Collection[int], *, drafting_is_free: bool = False) -> int:
        """How many drafts each of `slots` should get in the next step, which is of so many sequences."""
        if not slots:
            return 0
        seconds = self._known_seconds(sequences, len(slots), drafting_is_free=drafting_is_free)
        if not seconds:
            return 0
        prior = self._all.estimate(0.5, PRIOR_DRAFTS)
        acceptances = (self._sequences[slot].estimate(prior, PRIOR_DRAFTS) for slot in slots)
        best = most_productive(seconds, acceptances, others=sequences - len(slots))
        if best == len(seconds) - 1 < self.most:
            return best + 1  # what it takes is not known yet
        return self._look(self._looks[_size(sequences)], best)

    def note_step(self, rows: int, seconds: float) -> None:
        """Note how long the model took for a step of so many rows; infinite if it had no memory for it."""
        self._steps[_size(rows)].add(seconds)

    def note_drafting(self, sequences: int, seconds: float) -> None:
        """Note how long it took to make one draft for each of so many; infinite if there was no memory for it."""
        self._drafting[_size(sequences)].add(seconds)

    def note_drafts(self, slot: int, drafts: int, accepted: int) -> None:
        """Note how many drafts of a sequence were fed, one at least, and how many were accepted.

        What follows the first that is not accepted was not checked.
        """
        checked = min(accepted + 1, drafts)
        self._sequences[slot].add(accepted, checked, RECENT_DRAFTS)
        self._all.add(accepted, checked, RECENT_DRAFTS_OF_ALL)

    def _known_seconds(self, sequences: int, drafted: int, *, drafting_is_free: bool) -> list[float]:
        """What steps take with 0, 1, … drafts for `drafted` of the sequences, as far as that is known."""
        plain = self._steps[_size(sequences)]
        if not plain.is_known:
            return []
        seconds = [plain.seconds]
        drafting = RecentTime() if drafting_is_free else self._drafting[_size(drafted)]
        for drafts in range(1, self.most + 1):
            step = self._steps[_size(sequences + drafts * drafted)]
            taken = step.seconds + drafts * drafting.seconds
            if taken < math.inf and not (step.is_known and (drafting_is_free or drafting.is_known)):
                break
            seconds.append(taken)
        return seconds

    def _look(self, look: _Look, best: int) -> int:
        """The best, or for some steps now and then a neighbour of it."""
        if best != look.best:
            look.best, look.steps, look.wait = best, 0, SHORTEST_WAIT
        look.steps += 1
        if look.steps <= look.wait:
            return best
        if look.steps == look.wait + LOOK_STEPS:
            look.steps, look.wait, look.at_more = 0, min(2 * look.wait, LONGEST_WAIT), not look.at_more
        is_more = best == 0 or (look.at_more and best < self.most)
        return best + 1 if is_more else best - 1


def _size(count: int) -> int:
    """Up to 16 each number is a size of its own; larger ones are of one size if they differ by less than an eighth."""
    width = 1 << max((count - 1).bit_length() - 4, 0)
    return -(-count // width) * width
