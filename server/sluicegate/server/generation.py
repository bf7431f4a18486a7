"""The main use case: decide, encode, submit, guard, pass on.

`Generations.open` is the one way in and the one way out: whatever ends a call (its own limits, cancel, deadline, a lost
engine, a drain), the `finally` of this context manager frees the engine's slots and closes the books.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from sluicegate.auth import AccessRequest, Grant, Reason
from sluicegate.server.caller import Call
from sluicegate.server.engine import messages
from sluicegate.server.engine.client import EngineStream
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.gate import Gate
from sluicegate.server.guard import TextStream
from sluicegate.server.models import HostedModel, Models
from sluicegate.server.observe.metrics import Metrics

DEFAULT_OUTPUT_TOKENS = 128
OVERLOADED_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a caller asks for, its fields within their static bounds.

    `sampling.seed` and `sampling.max_output_tokens` are placeholders: `seed` and `max_output_tokens` here say what the
    caller set (None: nothing).
    """

    model: str
    prompt: str | tuple[int, ...]
    sampling: messages.Sampling
    seed: int | None
    max_output_tokens: int | None
    candidates: int
    stop_sequences: tuple[str, ...]
    include_tokens: bool
    purpose: str | None
    client_request_id: str
    max_delay_seconds: float
    min_tokens_per_message: int


class FinishReason(Enum):
    """Why a candidate ended, where the caller's own limits ended it."""

    STOP = auto()
    STOP_SEQUENCE = auto()
    MAX_OUTPUT_TOKENS = auto()
    CONTEXT_LENGTH = auto()


@dataclass(frozen=True, slots=True)
class Started:
    """What the call runs under."""

    request_id: str
    client_request_id: str
    grant: Grant
    weights_sha256: str
    prompt_tokens: int
    seed: int
    max_output_tokens: int
    queue_seconds: float


@dataclass(frozen=True, slots=True)
class Delta:
    """More output of one candidate. `tokens` is empty unless the caller asked for them."""

    candidate: int
    text: str
    tokens: tuple[messages.Token, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one candidate."""

    candidate: int
    reason: FinishReason
    stop_sequence: str | None
    output_tokens: int


@dataclass(slots=True)
class Usage:
    """Tokens counted for the caller so far."""

    prompt_tokens: int
    output_tokens: int = 0


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


class Generations:
    """Runs generations. One for the process; event loop only."""

    def __init__(
        self,
        gate: Gate,
        models: Models,
        metrics: Metrics,
        *,
        queued_requests: int,
        call_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate = gate
        self._models = models
        self._metrics = metrics
        self._queued_requests = queued_requests
        self._call_seconds = call_seconds
        self._clock = clock
        self._queued: dict[str, int] = {}
        self._live: set[Generation] = set()

    @property
    def live(self) -> int:
        """Generations under way, queued ones included."""
        return len(self._live)

    def end_all(self, reason: Reason) -> None:
        """End every generation with a status, queued and stalled ones too."""
        for generation in list(self._live):
            generation.end(CallRefused(reason))

    @asynccontextmanager
    async def open(self, call: Call, request: GenerationRequest) -> AsyncIterator[Generation]:
        """Decide, queue and start; the context holds the generation once it has its slots.

        Raises CallRefused for every refusal and for every end that is not the caller's own, also out of the context's
        body when the generation is ended from outside.
        """
        grant = self._gate.admit(call.caller, access_request(request))
        hosted = self._models.ready(request.model)
        prompt = await encode(hosted, request.prompt)
        submit = self._submission(call, request, grant, hosted, prompt)
        generation = Generation(request, grant, hosted, submit, self._clock)
        with self._booked(call, generation), ended_from_outside(generation):
            with self._queue_place(request.model):
                generation.stream = await self._models.engines.submit(submit)
                try:
                    await generation.wait_started()
                except BaseException:
                    await generation.stream.close()
                    raise
            try:
                yield generation
            finally:
                await generation.stream.close()

    def _submission(
        self, call: Call, request: GenerationRequest, grant: Grant, hosted: HostedModel, prompt: list[int]
    ) -> messages.Submit:
        check_vocabulary(request, hosted)
        room = hosted.context_length - len(prompt)
        wanted = request.max_output_tokens
        if room < max(1, wanted or 0):
            raise CallRefused(
                Reason.CONTEXT_LENGTH_EXCEEDED,
                {
                    "context_length": str(hosted.context_length),
                    "prompt_tokens": str(len(prompt)),
                    "max_output_tokens": str(wanted or 1),
                },
            )
        limits = [room, wanted or DEFAULT_OUTPUT_TOKENS, grant.max_output_tokens or room]
        seed = int.from_bytes(os.urandom(8), "big") if request.seed is None else request.seed
        longest = self._clock() + self._call_seconds
        return messages.Submit(
            request=call.request_id,
            model=request.model,
            prompt=prompt,
            sampling=msgspec.structs.replace(request.sampling, seed=seed, max_output_tokens=min(limits)),
            candidates=request.candidates,
            deadline=longest if call.deadline is None else min(call.deadline, longest),
        )

    @contextmanager
    def _queue_place(self, model: str) -> Iterator[None]:
        """A place in the model's bounded queue, held until the request has its slots."""
        if self._queued.get(model, 0) >= self._queued_requests:
            raise CallRefused(Reason.SERVER_OVERLOADED, retry_after_seconds=OVERLOADED_RETRY_SECONDS)
        self._queued[model] = self._queued.get(model, 0) + 1
        try:
            yield
        finally:
            self._queued[model] -= 1

    @contextmanager
    def _booked(self, call: Call, generation: Generation) -> Iterator[None]:
        """The books of one generation: live set, gauges, and at the end its counts and times."""
        metrics = self._metrics
        model = metrics.model(generation.grant.model)
        partner = metrics.partner(generation.grant.partner)
        metrics.streams_active.labels(partner, model).inc()
        self._live.add(generation)
        try:
            yield
        except CallRefused as refused:
            metrics.streams_terminated.labels(refused.reason.value, model).inc()
            raise
        except asyncio.CancelledError:
            metrics.streams_terminated.labels("CANCELLED", model).inc()
            raise
        finally:
            self._live.discard(generation)
            metrics.streams_active.labels(partner, model).dec()
            if generation.started is not None:
                metrics.tokens.labels(partner, model, "input").inc(generation.usage.prompt_tokens)
            metrics.tokens.labels(partner, model, "output").inc(generation.usage.output_tokens)
            metrics.request_seconds.labels(model).observe(self._clock() - call.arrived)
            if generation.first_token is not None and generation.last_token is not None:
                metrics.first_token_seconds.labels(model).observe(generation.first_token - call.arrived)
                if gaps := generation.longest - 1:
                    metrics.per_token_seconds.labels(model).observe(
                        (generation.last_token - generation.first_token) / gaps
                    )


class Generation:
    """One generation under way: read `started`, then call `next` until it gives None."""

    def __init__(
        self,
        request: GenerationRequest,
        grant: Grant,
        hosted: HostedModel,
        submit: messages.Submit,
        clock: Callable[[], float],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._request = request
        self._hosted = hosted
        self._submit = submit
        self._clock = clock
        self._candidates = [_Candidate(request.stop_sequences) for _ in range(submit.candidates)]
        self._pending: list[messages.Event] = []
        self._failure: CallRefused | None = None
        self.stream: EngineStream
        self.grant = grant
        self.started: Started | None = None
        self.usage = Usage(prompt_tokens=len(submit.prompt))
        self.refusal: CallRefused | None = None
        self.first_token: float | None = None
        self.last_token: float | None = None

    @property
    def longest(self) -> int:
        """Tokens of the candidate that has most."""
        return max(candidate.output_tokens for candidate in self._candidates)

    def end(self, refusal: CallRefused) -> None:
        """End it from outside, wherever it waits: for a slot, for a token, or for its reader."""
        if self.refusal is None:
            self.refusal = refusal
            self._task.cancel()

    async def wait_started(self) -> None:
        """Wait for the slots. What came along with the start is kept for `next`."""
        for event in (events := await self.stream.next()):
            if isinstance(event, messages.Started):
                sampling = self._submit.sampling
                self.started = Started(
                    request_id=self._submit.request,
                    client_request_id=self._request.client_request_id,
                    grant=self.grant,
                    weights_sha256=self._hosted.weights_sha256,
                    prompt_tokens=len(self._submit.prompt),
                    seed=sampling.seed,
                    max_output_tokens=sampling.max_output_tokens,
                    queue_seconds=event.queue_seconds,
                )
            elif isinstance(event, messages.Refused):
                raise CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation("config", event.cause)])
            elif isinstance(event, messages.Finished) and self.started is None:
                raise CallRefused(FORCED_ENDS.get(event.finish, Reason.INTERNAL))
        self._pending = [event for event in events if not isinstance(event, messages.Started)]
        if self.started is None:
            raise CallRefused(Reason.INTERNAL)

    async def next(self) -> list[Delta | Finished] | None:
        """What has come since the last call, at most one Delta a candidate; None when every candidate has ended.

        Waits for `min_tokens_per_message` tokens, but never longer than `max_delay_seconds`.
        Raises CallRefused if the generation cannot go on; what it still had was returned before.
        """
        if self._failure is not None:
            raise self._failure
        if all(candidate.finished for candidate in self._candidates):
            return None
        events = await self._gather()
        return self._digest(events)

    async def _gather(self) -> list[messages.Event]:
        events, self._pending = self._pending, []
        if not events:
            events = list(await self.stream.next())
        wanted = self._request.min_tokens_per_message
        try:
            async with asyncio.timeout(self._request.max_delay_seconds or None):
                while self._request.max_delay_seconds and len(events) < wanted and not _any_end(events):
                    events += await self.stream.next()
        except TimeoutError:
            pass
        return events

    def _digest(self, events: list[messages.Event]) -> list[Delta | Finished]:
        out: list[Delta | Finished] = []
        now = self._clock()
        for event in events:
            if isinstance(event, messages.Token | messages.Finished):
                candidate = self._candidates[event.candidate]
                if candidate.finished:
                    continue  # it met a stop sequence; the engine had not heard of it yet
                if isinstance(event, messages.Token):
                    self.first_token = self.first_token or now
                    self.last_token = now
                    self.usage.output_tokens += 1
                    candidate.feed(event, self._hosted.tokenizer.token_bytes(event.id))
                    if candidate.text.stop_sequence is not None:
                        self.stream.abort(event.candidate)
                        out += self._close(event.candidate, FinishReason.STOP_SEQUENCE)
                elif event.finish in OWN_ENDS:
                    out += self._close(event.candidate, OWN_ENDS[event.finish])
                else:
                    self._failure = CallRefused(FORCED_ENDS[event.finish])
        for index, candidate in enumerate(self._candidates):
            out += candidate.take(index, self._request.include_tokens)
        return sorted(out, key=lambda event: isinstance(event, Finished))

    def _close(self, index: int, reason: FinishReason) -> list[Delta | Finished]:
        candidate = self._candidates[index]
        candidate.finish()
        finished = Finished(index, reason, candidate.text.stop_sequence, candidate.output_tokens)
        return [finished]


class _Candidate:
    """Book-keeping of one candidate's output."""

    def __init__(self, stop_sequences: tuple[str, ...]) -> None:
        self.text = TextStream(stop_sequences)
        self.finished = False
        self.output_tokens = 0
        self._released: list[str] = []
        self._tokens: list[messages.Token] = []

    def feed(self, token: messages.Token, data: bytes) -> None:
        self.output_tokens += 1
        self._tokens.append(token)
        self._released.append(self.text.feed(data))

    def finish(self) -> None:
        self.finished = True
        self._released.append(self.text.flush())

    def take(self, index: int, include_tokens: bool) -> list[Delta | Finished]:
        """What may leave now, as one Delta; nothing if there is none."""
        text = "".join(self._released)
        tokens = tuple(self._tokens) if include_tokens else ()
        self._released, self._tokens = [], []
        return [Delta(index, text, tokens)] if text or tokens else []


@contextmanager
def ended_from_outside(generation: Generation) -> Iterator[None]:
    """Turn the cancellation that `Generation.end` sent into its refusal, as asyncio.timeout does with its own."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if generation.refusal is None or task is None or task.uncancel() > 0:
            raise
        raise generation.refusal from None


def access_request(request: GenerationRequest) -> AccessRequest:
    """What the policy must know of a generation."""
    return AccessRequest(
        action="generate",
        model=request.model,
        purpose=request.purpose,
        logprobs=request.sampling.logprobs is not None,
        greedy=request.sampling.temperature == 0 or request.sampling.top_k == 1,
        token_bytes=request.include_tokens,
    )


async def encode(hosted: HostedModel, prompt: str | tuple[int, ...]) -> list[int]:
    """A prompt's tokens. Long texts are encoded off the event loop."""
    if isinstance(prompt, tuple):
        hosted.check_ids("token_ids.ids", prompt)
        return list(prompt)
    if len(prompt) > LONG_TEXT:
        return await asyncio.to_thread(hosted.tokenizer.encode, prompt)
    return hosted.tokenizer.encode(prompt)


LONG_TEXT = 4_096  # characters; above this, encoding would hold the event loop for milliseconds


def check_vocabulary(request: GenerationRequest, hosted: HostedModel) -> None:
    """Refuse token ids that the model does not have."""
    hosted.check_ids("config.stop_token_ids", request.sampling.stop_token_ids)
    hosted.check_ids("config.logit_bias", request.sampling.logit_bias)


def _any_end(events: list[messages.Event]) -> bool:
    return any(isinstance(event, messages.Finished) for event in events)
