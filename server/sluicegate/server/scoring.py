"""The use case of scoring: how likely a model finds a given text, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sluicegate.auth import Reason
from sluicegate.server.caller import Call
from sluicegate.server.engine import messages
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import Gate
from sluicegate.server.live import LiveCalls
from sluicegate.server.models import HostedModel, Models, engine_faults
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.output import Started, Usage
from sluicegate.server.queueing import Queue
from sluicegate.server.request import ScoreRequest
from sluicegate.server.running import FORCED_ENDS


@dataclass(frozen=True, slots=True)
class Scored:
    """The text's tokens with their log-probabilities (natural logarithm), and what the call ran under."""

    started: Started
    hosted: HostedModel
    tokens: tuple[messages.Token, ...]
    usage: Usage


class Scoring:
    """Scores texts. One for the process; event loop only. A call ends after `call_seconds` at the latest."""

    def __init__(
        self,
        gate: Gate,
        models: Models,
        metrics: Metrics,
        queue: Queue,
        live: LiveCalls,
        *,
        call_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate = gate
        self._models = models
        self._metrics = metrics
        self._queue = queue
        self._live = live
        self._call_seconds = call_seconds
        self._clock = clock

    async def score(self, call: Call, request: ScoreRequest) -> Scored:
        """Score a text behind the end-of-text token, so that its first token has a probability too.

        Raises CallRefused for every refusal and for every end without an answer.
        """
        grant = self._gate.admit(call.caller, request.access(), counted_as="score")
        hosted = self._models.ready(request.model)
        ids = await hosted.encode(request.content)
        hosted.room(len(ids) + 1, 0)
        message = messages.Score(
            request=call.request_id,
            model=request.model,
            ids=[hosted.end_of_text, *ids],
            logprobs=request.logprobs,
            deadline=call.deadline_within(self._clock() + self._call_seconds),
        )
        with self._live.entry(grant), self._queue.place(request.model), engine_faults():
            answer = await self._models.engines.score(message)
        if not isinstance(answer, messages.Scored):
            ended = answer.finish if isinstance(answer, messages.Finished) else messages.Finish.FAILED
            raise CallRefused(FORCED_ENDS.get(ended, Reason.INTERNAL))
        model = self._metrics.model(grant.model)
        self._metrics.tokens.labels(self._metrics.partner(grant.partner), model, "input").inc(len(ids))
        self._metrics.request_seconds.labels(model).observe(self._clock() - call.arrived)
        return Scored(
            started=Started(
                request_id=call.request_id,
                client_request_id=request.client_request_id,
                grant=grant,
                weights_sha256=hosted.weights_sha256,
                prompt_tokens=len(ids),
            ),
            hosted=hosted,
            tokens=tuple(
                messages.Token(request=call.request_id, candidate=0, id=token, logprob=logprob, top=top)
                for token, logprob, top in zip(ids, answer.logprobs, answer.top, strict=True)
            ),
            usage=Usage(prompt_tokens=len(ids)),
        )
