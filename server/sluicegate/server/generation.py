"""The main use case: decide, encode, submit, guard, pass on.

`Generations.open` is the one way in and the one way out: whatever ends a call (its own limits, cancel, deadline, a
lost engine, a drain), the `finally` of this context manager frees the engine's slots and closes the books.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec

from sluicegate.auth import Grant
from sluicegate.server.caller import Call, identity_of
from sluicegate.server.engine import messages
from sluicegate.server.errors import CallRefused
from sluicegate.server.models import HostedModel, engine_faults
from sluicegate.server.observe.metrics import CANCELLED
from sluicegate.server.request import GenerationRequest
from sluicegate.server.running import Generation
from sluicegate.server.serving import Serving

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
        grant = serving.gate.admit(call.caller, request.access(), counted_as="generate")
        hosted = serving.models.ready(request.model)
        submit = self._submission(call, request, grant, hosted, await hosted.encode(request.prompt))
        generation = Generation(request, grant, hosted, submit, serving.clock)
        with self._booked(call, generation), serving.live.entry(grant), engine_faults():
            with serving.queue.place(request.model, submit.identity):
                generation.stream = await serving.models.engines.submit(submit)
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
        hosted.check_ids("config.stop_token_ids", request.sampling.stop_token_ids)
        hosted.check_ids("config.logit_bias", request.sampling.logit_bias)
        wanted = request.max_output_tokens
        room = hosted.room(len(prompt), wanted or 1)
        limits = [room, wanted or DEFAULT_OUTPUT_TOKENS, grant.max_output_tokens or room]
        seed = int.from_bytes(os.urandom(8), "big") if request.seed is None else request.seed
        return messages.Submit(
            request=call.request_id,
            model=request.model,
            prompt=prompt,
            sampling=msgspec.structs.replace(request.sampling, seed=seed, max_output_tokens=min(limits)),
            candidates=request.candidates,
            deadline=call.deadline_within(self._serving.latest_end()),
            identity=identity_of(call.caller, grant),
        )

    @contextmanager
    def _booked(self, call: Call, generation: Generation) -> Iterator[None]:
        """The books of one generation: gauges, and at the end its counts and times."""
        metrics = self._serving.metrics
        model = metrics.model(generation.grant.model)
        partner = metrics.partner(generation.grant.partner)
        metrics.streams_active.labels(partner, model).inc()
        try:
            yield
        except CallRefused as refused:
            metrics.streams_terminated.labels(refused.reason.value, model).inc()
            raise
        except asyncio.CancelledError:
            metrics.streams_terminated.labels(CANCELLED, model).inc()
            raise
        finally:
            metrics.streams_active.labels(partner, model).dec()
            if generation.has_started:
                metrics.tokens.labels(partner, model, "input").inc(generation.usage.prompt_tokens)
            metrics.tokens.labels(partner, model, "output").inc(generation.usage.output_tokens)
            metrics.request_seconds.labels(model).observe(self._serving.clock() - call.arrived)
            if generation.first_token is not None and generation.last_token is not None:
                metrics.first_token_seconds.labels(model).observe(generation.first_token - call.arrived)
                if gaps := generation.longest - 1:
                    seconds = generation.last_token - generation.first_token
                    metrics.per_token_seconds.labels(model).observe(seconds / gaps)
