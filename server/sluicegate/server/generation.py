"""The main use case: decide, encode, submit, guard, pass on.

`Generations.open` is the one way in and the one way out: whatever ends a call (its own limits, cancel, deadline, a
lost engine, a drain), the `finally` of this context manager frees the engine's slots and closes the books.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import msgspec

from sluicegate.auth import Grant
from sluicegate.server.caller import Call, cache_salt_of, identity_of
from sluicegate.server.engine import messages
from sluicegate.server.errors import CallRefused
from sluicegate.server.models import HostedModel, engine_faults
from sluicegate.server.observe.rpcs import CANCELLED
from sluicegate.server.observe.tracing import Phase
from sluicegate.server.output import Usage
from sluicegate.server.request import GenerationRequest
from sluicegate.server.running import Generation
from sluicegate.server.serving import Serving
from sluicegate.server.signals import LexiconScanner
from sluicegate.server.state import Wanted

DEFAULT_OUTPUT_TOKENS = 128


class Generations:
    """Runs generations. One for the process; event loop only."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    @asynccontextmanager
    async def open(self, call: Call, request: GenerationRequest) -> AsyncIterator[Generation]:
        """Decide, queue and start; the context holds the generation once it has its slots.

        Raises CallRefused for every refusal and for every end that is not the caller's own, also out of the
        context's body when the generation is ended from outside.
        """
        serving = self._serving
        grant = serving.gate.admit(call, request.access(), counted_as="generate")
        hosted = serving.models.ready(request.model)
        prompt = await hosted.encode(request.prompt)
        longest = self._longest(request, grant, hosted, prompt)
        usage = Usage(prompt_tokens=len(prompt))
        wanted = Wanted(output_tokens=longest * request.candidates, least_output_tokens=request.candidates)
        with (
            self._booked(call, grant) as books,
            serving.monitor.generation(grant, request.prompt, hosted.tokenizer, request.candidates) as observation,
            serving.live.entry(call, grant, usage) as entry,
            serving.judge.watching(entry, call.caller, request.access()),
            engine_faults(),
        ):
            async with serving.meter.reserved(entry, call.caller, usage, wanted) as hold:
                held = longest if hold.output_tokens is None else hold.output_tokens // request.candidates
                submit = self._submission(
                    call, request, grant, prompt, min(longest, held), with_logprobs=observation.wants_logprobs
                )
                generation = books.generation = Generation(
                    request,
                    grant,
                    hosted,
                    submit,
                    usage=usage,
                    is_cut_by_quota=held < longest,
                    observation=observation,
                    stops_at=partial(LexiconScanner, serving.lexicon, at_once=True) if grant.stop_flagged else None,
                    clock=serving.clock,
                )
                generation.live = entry
                async with self._running(call, generation, submit):
                    observation.begin()
                    yield generation

    @asynccontextmanager
    async def _running(self, call: Call, generation: Generation, submit: messages.Submit) -> AsyncIterator[None]:
        """The generation's place in the queue, its entry in the audit log, then its slots until the context is left."""
        with self._serving.queue.place(submit.model, submit.identity):
            await call.record.open(
                generation.grant, reserved_tokens=submit.sampling.max_output_tokens * submit.candidates
            )
            call.trace.begin(Phase.QUEUE)
            generation.stream = await self._serving.models.engines.submit(submit)
            try:
                await generation.wait_started()
                generation.live.start()
                call.trace.begin(Phase.PREFILL)
            except BaseException:
                await generation.stream.close()
                raise
        try:
            yield
        finally:
            await generation.stream.close()

    @staticmethod
    def _longest(request: GenerationRequest, grant: Grant, hosted: HostedModel, prompt: list[int]) -> int:
        """Row 18: the most tokens that one candidate may have, quotas apart. Raises CallRefused if they do not fit."""
        hosted.check_ids("config.stop_token_ids", request.sampling.stop_token_ids)
        hosted.check_ids("config.logit_bias", request.sampling.logit_bias)
        wanted = request.max_output_tokens
        room = hosted.room(len(prompt), wanted or 1)
        return min(room, wanted or DEFAULT_OUTPUT_TOKENS, grant.max_output_tokens or room)

    def _submission(
        self,
        call: Call,
        request: GenerationRequest,
        grant: Grant,
        prompt: list[int],
        max_output_tokens: int,
        *,
        with_logprobs: bool,
    ) -> messages.Submit:
        sampling = request.sampling
        seed = int.from_bytes(os.urandom(8), "big") if request.seed is None else request.seed
        return messages.Submit(
            request=call.request_id,
            model=request.model,
            prompt=prompt,
            sampling=msgspec.structs.replace(
                sampling,
                seed=seed,
                max_output_tokens=max_output_tokens,
                logprobs=0 if with_logprobs and sampling.logprobs is None else sampling.logprobs,
                watermark=grant.watermark and not request.access().greedy,
            ),
            candidates=request.candidates,
            deadline=call.deadline_within(self._serving.latest_end()),
            identity=identity_of(call.caller, grant),
            priority=grant.priority(request.priority),
            cache_salt=cache_salt_of(call.caller, grant),
        )

    @contextmanager
    def _booked(self, call: Call, grant: Grant) -> Iterator[_Books]:
        """The books of one call: gauges, and at the end the counts and times of its generation, if it came to one."""
        metrics, books = self._serving.metrics, _Books()
        model, partner = metrics.model(grant.model), metrics.partner(grant.partner)
        metrics.access.streams_active.labels(partner, model).inc()
        try:
            yield books
        except CallRefused as refused:
            books.cause = refused.reason.value
            raise
        except asyncio.CancelledError:
            books.cause = CANCELLED
            raise
        finally:
            metrics.access.streams_active.labels(partner, model).dec()
            if books.generation is not None:
                call.record.finishes = books.generation.finishes
                call.record.watermark_id = books.generation.watermark_id
                call.record.redactions = books.generation.redactions
                metrics.redactions.take(partner, books.generation.redactions)
                self._count(call, books.generation, partner, model)
                if books.cause is not None:
                    metrics.rpcs.streams_terminated.labels(books.cause, model).inc()

    def _count(self, call: Call, generation: Generation, partner: str, model: str) -> None:
        metrics, exemplar = self._serving.metrics, call.trace.exemplar
        if generation.has_started:
            metrics.access.tokens.labels(partner, model, "input").inc(generation.usage.prompt_tokens)
        metrics.access.tokens.labels(partner, model, "output").inc(generation.usage.output_tokens)
        metrics.latency.request_seconds.labels(model).observe(self._serving.clock() - call.arrived, exemplar)
        if generation.first_token is not None and generation.last_token is not None:
            call.trace.begin(Phase.DECODE, at=generation.first_token)
            metrics.latency.first_token_seconds.labels(model).observe(generation.first_token - call.arrived, exemplar)
            if gaps := generation.longest - 1:
                seconds = generation.last_token - generation.first_token
                metrics.latency.per_token_seconds.labels(model).observe(seconds / gaps, exemplar)


@dataclass(slots=True)
class _Books:
    """What is known of a call at its end. `cause`: why it ended otherwise than by its own limits."""

    generation: Generation | None = None
    cause: str | None = None
