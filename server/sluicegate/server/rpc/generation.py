"""GenerationService on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from sluicegate.auth import Reason
from sluicegate.server import output
from sluicegate.server.cancelling import Cancelling
from sluicegate.server.errors import CallRefused
from sluicegate.server.generation import Generations
from sluicegate.server.live import LiveCall
from sluicegate.server.rpc import call as rpc_call
from sluicegate.server.rpc import requests, responses
from sluicegate.server.rpc.validation import validate
from sluicegate.server.scoring import Scoring
from sluicegate.server.tokenizing import Tokenizing
from sluicegate.v1 import generation_pb2, generation_service_pb2
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceServicer

Context = grpc.aio.ServicerContext[object, object]


TOKENS_AT_ONCE = 1_024  # of an answer to Tokenize: about a millisecond of the event loop, then others get their turn


class GenerationServicer(GenerationServiceServicer):
    """Converts and passes on; a reader that takes no message for `stalled_reader_seconds` is cut."""

    def __init__(
        self,
        generations: Generations,
        scoring: Scoring,
        tokenizing: Tokenizing,
        cancelling: Cancelling,
        *,
        stalled_reader_seconds: float,
    ) -> None:
        self._generations = generations
        self._scoring = scoring
        self._tokenizing = tokenizing
        self._cancelling = cancelling
        self._stalled_reader_seconds = stalled_reader_seconds

    async def Generate(
        self, request: generation_service_pb2.GenerateRequest, context: Context
    ) -> generation_service_pb2.GenerateResponse:
        call = rpc_call.authenticated(context)
        validate(request)
        asked = requests.generation(request)
        candidates = [generation_pb2.Candidate() for _ in range(asked.candidates)]
        texts: list[list[str]] = [[] for _ in candidates]
        async with self._generations.open(call, asked) as generation:
            rpc_call.current().usage = generation.usage
            rpc_call.current().answers_whole = True
            while (events := await generation.next()) is not None:
                for event in events:
                    candidate = candidates[event.candidate]
                    match event:
                        case output.Delta():
                            texts[event.candidate].append(event.text)
                            responses.add_tokens(candidate, event.tokens, generation.tokenizer)
                        case output.Finished():
                            candidate.finished.CopyFrom(responses.finished(event))
            for candidate, text in zip(candidates, texts, strict=True):
                candidate.text = "".join(text)
            return generation_service_pb2.GenerateResponse(
                started=responses.started(generation.started),
                candidates=candidates,
                usage=responses.usage(generation.usage),
            )

    # A coroutine that writes, where the generated signature has an iterator: grpc.aio takes both, but only a write
    # can be limited in time, and only a cancellation that arrives in a write reaches the generation's `finally`.
    async def StreamGenerate(  # type: ignore[override]
        self, request: generation_service_pb2.StreamGenerateRequest, context: Context
    ) -> None:
        call = rpc_call.authenticated(context)
        validate(request)
        async with self._generations.open(call, requests.stream(request)) as generation:
            rpc_call.current().usage = generation.usage
            usage, tokenizer = generation.usage, generation.tokenizer
            async with self._writes(generation.live) as writes:
                writes.begin()
                await self._begin(context, responses.event(generation.started, usage, tokenizer))
                writes.end()
                while (events := await generation.next()) is not None:
                    # A write waits for the reader's flow control; meanwhile tokens pile up into one message.
                    for event in events:
                        writes.begin()
                        await context.write(responses.event(event, usage, tokenizer))
                    writes.end()

    async def Score(
        self, request: generation_service_pb2.ScoreRequest, context: Context
    ) -> generation_service_pb2.ScoreResponse:
        call = rpc_call.authenticated(context)
        validate(request)
        scored = await self._scoring.score(call, requests.score(request))
        rpc_call.current().usage = scored.usage
        return responses.score(scored)

    async def Tokenize(
        self, request: generation_service_pb2.TokenizeRequest, context: Context
    ) -> generation_service_pb2.TokenizeResponse:
        call = rpc_call.authenticated(context)
        validate(request)
        purpose = request.purpose or None
        hosted, ids = await self._tokenizing.tokenize(call, request.model, request.text, purpose)
        response = generation_service_pb2.TokenizeResponse()
        for first in range(0, len(ids), TOKENS_AT_ONCE):
            response.tokens.extend(responses.plain_tokens(ids[first : first + TOKENS_AT_ONCE], hosted.tokenizer))
            await asyncio.sleep(0)
        return response

    async def Detokenize(
        self, request: generation_service_pb2.DetokenizeRequest, context: Context
    ) -> generation_service_pb2.DetokenizeResponse:
        call = rpc_call.authenticated(context)
        validate(request)
        ids, purpose = tuple(request.token_ids), request.purpose or None
        data = await self._tokenizing.detokenize(call, request.model, ids, purpose)
        return generation_service_pb2.DetokenizeResponse(text=data.decode(errors="replace"), bytes=data)

    async def CancelGeneration(
        self, request: generation_service_pb2.CancelGenerationRequest, context: Context
    ) -> generation_service_pb2.CancelGenerationResponse:
        principal = rpc_call.authenticated(context).caller.principal
        validate(request)
        self._cancelling.cancel(principal, request.request_id)
        return generation_service_pb2.CancelGenerationResponse()

    async def _begin(self, context: Context, message: generation_service_pb2.StreamGenerateResponse) -> None:
        """The first write, in a task of its own: it goes on when the call ends, and the status waits for it."""
        call = rpc_call.current()
        call.first_write = write = asyncio.create_task(context.write(message))
        write.add_done_callback(_forget_failure)
        await asyncio.wait({write})
        await write
        call.first_write = None

    @asynccontextmanager
    async def _writes(self, live: LiveCall) -> AsyncIterator[_Writes]:
        """Ends a stream whose reader stalled, by the time that is set for each write: one timeout serves them all."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                yield _Writes(limit, live, self._stalled_reader_seconds)
        except TimeoutError:
            if not limit.expired():
                raise
            raise CallRefused(Reason.READER_STALLED) from None


class _Writes:
    """When a stream's reader was given something to take, and has taken it."""

    def __init__(self, limit: asyncio.Timeout, live: LiveCall, seconds: float) -> None:
        self._limit = limit
        self._live = live
        self._seconds = seconds

    def begin(self) -> None:
        """A write begins: the reader has its time from now on."""
        now = asyncio.get_running_loop().time()
        self._live.writing_since = now
        self._limit.reschedule(now + self._seconds)

    def end(self) -> None:
        """The reader has taken all there was."""
        self._live.writing_since = None
        self._limit.reschedule(None)


def _forget_failure(write: asyncio.Task[None]) -> None:
    """Keep asyncio from telling of it where the call is over and nobody asks."""
    if not write.cancelled():
        write.exception()
