"""One generation under way: engine events in, guarded output out."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sluicegate.auth import Grant, Reason
from sluicegate.server.candidate import Candidate
from sluicegate.server.engine import messages
from sluicegate.server.engine.client import EngineStream
from sluicegate.server.engine.errors import EngineLost
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.guard import Redaction
from sluicegate.server.live import LiveCall
from sluicegate.server.models import HostedModel
from sluicegate.server.monitoring import Observation
from sluicegate.server.output import Delta, Finished, FinishReason, Mark, Started, Usage
from sluicegate.server.request import GenerationRequest
from sluicegate.server.signals import LexiconScanner, PiiType
from sluicegate.server.tokenizer import Tokenizer

OWN_ENDS = {
    messages.Finish.STOP: FinishReason.STOP,
    messages.Finish.MAX_OUTPUT_TOKENS: FinishReason.MAX_OUTPUT_TOKENS,
    messages.Finish.CONTEXT_LENGTH: FinishReason.CONTEXT_LENGTH,
}
FORCED_ENDS = {
    messages.Finish.DEADLINE: Reason.DEADLINE_EXCEEDED,
    messages.Finish.ABORTED: Reason.MODEL_NOT_READY,  # the model was unloaded
    messages.Finish.FAILED: Reason.INTERNAL,
}


class Generation:
    """One generation under way: read `started`, then call `next` until it gives None. One task uses it.

    `usage` is counted up as tokens come. `is_cut_by_quota`: the caller asked for more tokens than its quota held.
    `observation` is told of all text that is released; `stops_at` makes what ends a candidate whose text is flagged.
    """

    def __init__(
        self,
        request: GenerationRequest,
        grant: Grant,
        hosted: HostedModel,
        submit: messages.Submit,
        *,
        usage: Usage,
        is_cut_by_quota: bool,
        observation: Observation,
        stops_at: Callable[[], LexiconScanner] | None,
        clock: Callable[[], float],
    ) -> None:
        self._request = request
        self._hosted = hosted
        self._submit = submit
        self._clock = clock
        self._is_cut_by_quota = is_cut_by_quota
        self._candidates = [
            Candidate(
                request.stop_sequences,
                functools.partial(observation.add, index),
                None if stops_at is None else stops_at(),
                None if grant.redaction is None else Redaction(),
            )
            for index in range(submit.candidates)
        ]
        self._unfinished = submit.candidates
        self._pending: Sequence[messages.Event] = ()
        self._failure: CallRefused | None = None
        self.stream: EngineStream
        self.live: LiveCall
        self.grant = grant
        self._started: Started | None = None
        self.usage = usage
        self.first_token: float | None = None
        self.last_token: float | None = None

    @property
    def has_started(self) -> bool:
        """Whether it has held its slots."""
        return self._started is not None

    @property
    def started(self) -> Started:
        """What it runs under; only once it has started."""
        assert self._started is not None
        return self._started

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._hosted.tokenizer

    @property
    def finishes(self) -> list[FinishReason]:
        """Why candidates ended, those that did so by the caller's own limits."""
        return [candidate.finished for candidate in self._candidates if candidate.finished is not None]

    @property
    def watermark_id(self) -> str | None:
        """Of the key that its output is marked by; None if it is not."""
        return self._hosted.watermark_id if self._submit.sampling.watermark else None

    @property
    def redactions(self) -> Mapping[PiiType, int]:
        """Personal data that was taken out of its output so far, of all candidates."""
        return sum((candidate.redactions for candidate in self._candidates), Counter())

    @property
    def longest(self) -> int:
        """Tokens of the candidate that has most."""
        return max(candidate.output_tokens for candidate in self._candidates)

    async def wait_started(self) -> None:
        """Wait for the slots. What came along with the start is kept for `next`."""
        events = await self.stream.next()
        for event in events:
            match event:
                case messages.Started():
                    self._started = self._describe(event)
                    self.usage.cached_tokens = event.cached_tokens
                case messages.Refused():
                    field, _, rule = event.cause.partition(": ")
                    raise CallRefused(
                        Reason.REQUEST_INVALID, violations=[FieldViolation(REFUSED_FIELDS.get(field, field), rule)]
                    )
                case messages.Finished() if self._started is None:
                    raise CallRefused(FORCED_ENDS.get(event.finish, Reason.INTERNAL), {"started": "false"})
                case _:
                    pass
        self._pending = [event for event in events if not isinstance(event, messages.Started)]
        if self._started is None:
            raise CallRefused(Reason.INTERNAL)

    async def next(self) -> list[Delta | Finished] | None:
        """What has come since the last call, at most one Delta a candidate; None when every candidate has ended.

        Waits for `min_tokens_per_message` tokens, but never longer than `max_delay_seconds`.
        Raises CallRefused if the generation cannot go on; what it still had was returned before.
        """
        if self._failure is not None:
            raise self._failure
        if not self._unfinished:
            return None
        return self._digest(await self._gather())

    def _describe(self, event: messages.Started) -> Started:
        sampling = self._submit.sampling
        return Started(
            request_id=self._submit.request,
            client_request_id=self._request.client_request_id,
            grant=self.grant,
            weights_sha256=self._hosted.weights_sha256,
            prompt_tokens=len(self._submit.prompt),
            priority=self._submit.priority,
            seed=sampling.seed,
            max_output_tokens=sampling.max_output_tokens,
            queue_seconds=event.queue_seconds,
        )

    async def _gather(self) -> list[messages.Event]:
        events, self._pending = list(self._pending), ()
        if not events:
            events = await self.stream.next()
        if not self._request.max_delay_seconds:
            return events
        try:
            async with asyncio.timeout(self._request.max_delay_seconds):
                while len(events) < self._request.min_tokens_per_message and not _any_end(events):
                    events += await self.stream.next()
        except (TimeoutError, EngineLost):
            pass  # what has come goes out first; after a loss the next wait tells of it
        return events

    def _digest(self, events: Sequence[messages.Event]) -> list[Delta | Finished]:
        ends: list[Finished] = []
        for event in events:
            match event:
                case messages.Token() | messages.Finished():
                    candidate = self._candidates[event.candidate]
                case _:
                    continue
            if candidate.finished is not None:
                continue  # it met a stop sequence; the engine had not heard of it yet
            if isinstance(event, messages.Token):
                self._count()
                candidate.feed(event, self._hosted.tokenizer.token_bytes(event.id))
                if (reason := candidate.stopped) is not None:
                    self.stream.abort(event.candidate)
                    ends.append(self._finished(event.candidate, reason))
            elif event.finish in OWN_ENDS:
                ends.append(self._finished(event.candidate, self._own_end(event.finish)))
            else:
                candidate.break_off()
                self._failure = CallRefused(FORCED_ENDS[event.finish])
        self._unfinished -= len(ends)
        out: list[Delta | Finished] = []
        for index, candidate in enumerate(self._candidates):
            if (delta := candidate.take(index, self._shown)) is not None:
                out.append(delta)
        return out + ends

    def _finished(self, index: int, reason: FinishReason) -> Finished:
        candidate = self._candidates[index]
        candidate.finish(reason)
        assert candidate.finished is not None
        mark = Mark.GREEDY if self.grant.watermark else Mark.NOT_DUE
        return Finished(
            candidate=index,
            reason=candidate.finished,
            stop_sequence=candidate.stop_sequence,
            output_tokens=candidate.output_tokens,
            mark=Mark.APPLIED if self.watermark_id is not None else mark,
            watermark_id=self.watermark_id,
            redactions=candidate.redactions,
        )

    def _shown(self, tokens: Sequence[messages.Token]) -> tuple[messages.Token, ...]:
        """What the caller asked to see of tokens. Their log-probabilities may have been asked for by us alone."""
        if not self._request.include_tokens:
            return ()
        if self._request.sampling.logprobs is not None:
            return tuple(tokens)
        return tuple(token.without_logprob() for token in tokens)

    def _own_end(self, finish: messages.Finish) -> FinishReason:
        """The caller's limit that ended a candidate: its quota, where that held less than it asked for."""
        reason = OWN_ENDS[finish]
        is_quota = self._is_cut_by_quota and reason is FinishReason.MAX_OUTPUT_TOKENS
        return FinishReason.QUOTA if is_quota else reason

    def _count(self) -> None:
        self.last_token = self._clock()
        self.first_token = self.first_token or self.last_token
        self.usage.output_tokens += 1


REFUSED_FIELDS = {"candidates": "config.candidate_count", "tokens": "token_ids.ids"}
"""The engine's names of what it can refuse, where the API's differ."""


def _any_end(events: Sequence[messages.Event]) -> bool:
    return any(isinstance(event, messages.Finished) for event in events)
