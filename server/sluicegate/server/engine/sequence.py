"""What the scheduler knows of a request and of each of its sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sluicegate.server.engine.messages import Sampling, Score, Submit, TokenLogprob
from sluicegate.server.engine.runner import Chunk


@dataclass(slots=True, eq=False)
class Scoring:
    """What a score request wants and has: `targets[i]` follows the token at position i."""

    targets: list[int]
    alternatives: int
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[TokenLogprob, ...]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Sequence:
    """One candidate of a request. `tokens`: prompt, then output; the first `cached` are in the slot."""

    request: Request
    candidate: int
    tokens: list[int]
    slot: int | None = None
    cached: int = 0
    in_flight: Chunk | None = None  # what a step feeds whose outcome is not known yet; of two steps, the later
    follows: bool = False  # waits for the prompt that the request's leading sequence prefills
    ended: bool = False

    @property
    def fed(self) -> int:
        """Tokens that are fed, those of steps in flight included."""
        return self.cached if self.in_flight is None else self.in_flight.end

    @property
    def is_drawing(self) -> bool:
        """Whether a step in flight draws its next token."""
        return self.in_flight is not None and self.in_flight.samples

    @property
    def unfed(self) -> int:
        """Tokens still to feed, one that is being drawn included; one for a sequence that decodes."""
        return len(self.tokens) + self.is_drawing - self.fed

    @property
    def ungenerated(self) -> int:
        """Tokens of the longest output that it does not have."""
        sampling = self.request.sampling
        if sampling is None:
            return 0
        return sampling.max_output_tokens - (len(self.tokens) - self.request.prompt_length)

    def chunk(self, count: int) -> Chunk:
        """The next `count` tokens to feed. The sequence holds a slot."""
        assert self.slot is not None
        start, stop = self.fed, self.fed + count
        if stop > len(self.tokens):
            return Chunk(self.slot, start, (), samples=True, awaits=True)
        scoring = self.request.scoring
        if scoring is None:
            return Chunk(self.slot, start, self.tokens[start:stop], samples=stop == len(self.tokens))
        return Chunk(
            self.slot,
            start,
            self.tokens[start:stop],
            samples=False,
            targets=scoring.targets[start:stop],
            score_top=scoring.alternatives,
        )


@dataclass(slots=True, eq=False)
class Request:
    """A request of one front end. `live` holds the sequences that have not ended, in candidate order."""

    front_end: str
    id: str
    order: int  # grows with each arrival
    arrived: float
    deadline: float  # infinity where the front end set none
    prompt_length: int
    identity: str = ""
    priority: int = 0
    cache_salt: str = ""  # with whose prompts it may share what is cached; empty: with nobody's
    sampling: Sampling | None = None  # None: a score request
    stops: frozenset[int] = frozenset()
    scoring: Scoring | None = None
    live: list[Sequence] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """Unique among all requests: each front end names its own."""
        return self.front_end, self.id

    @property
    def cost(self) -> int:
        """Tokens that it may take: its prompt, and the longest output of each of its sequences.

        What is cached of the prompt counts in full: it is known only once the slot is taken, and fair shares are of
        what callers ask for.
        """
        longest = self.sampling.max_output_tokens if self.sampling is not None else 0
        return self.prompt_length + longest * len(self.live)


def build_request(
    front_end: str, message: Submit | Score, order: int, arrived: float, eos_token_id: int | None
) -> Request:
    """The request that a message asks for, with its sequences.

    A score request feeds all of its text but the last token, which is only a target. It shares nothing that is cached:
    what is not fed has no logits, and it wants the log-probability of every token.
    """
    request = Request(
        front_end=front_end,
        id=message.request,
        order=order,
        arrived=arrived,
        deadline=math.inf if message.deadline is None else message.deadline,
        prompt_length=len(message.prompt) if isinstance(message, Submit) else len(message.ids) - 1,
        identity=message.identity,
        priority=message.priority,
    )
    if isinstance(message, Submit):
        request.sampling = message.sampling
        request.cache_salt = message.cache_salt
        request.stops = frozenset(message.sampling.stop_token_ids)
        if eos_token_id is not None and not message.sampling.ignore_eos:
            request.stops |= {eos_token_id}
        request.live = [Sequence(request, index, list(message.prompt)) for index in range(message.candidates)]
    else:
        request.scoring = Scoring(message.ids[1:], message.logprobs)
        request.live = [Sequence(request, 0, message.ids[:-1])]
    return request
