"""The use case of scoring: how likely a model finds a given text, token by token."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from sluicegate.auth import Reason
from sluicegate.server.caller import Call, identity_of
from sluicegate.server.engine import messages
from sluicegate.server.errors import CallRefused
from sluicegate.server.models import HostedModel, engine_faults
from sluicegate.server.output import Started, Usage
from sluicegate.server.request import ScoreRequest
from sluicegate.server.running import FORCED_ENDS
from sluicegate.server.serving import Serving
from sluicegate.server.state import Wanted


@dataclass(frozen=True, slots=True)
class Scored:
    """The text's tokens with their log-probabilities (natural logarithm), and what the call ran under."""

    started: Started
    hosted: HostedModel
    tokens: tuple[messages.Token, ...]
    usage: Usage


class Scoring:
    """Scores texts. One for the process; event loop only."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def score(self, call: Call, request: ScoreRequest) -> Scored:
        """Score a text behind the end-of-text token, so that its first token has a probability too.

        Raises CallRefused for every refusal and for every end without an answer.
        """
        serving = self._serving
        grant = serving.gate.admit(call, request.access(), counted_as="score")
        hosted = serving.models.ready(request.model)
        ids = await hosted.encode(request.content)
        hosted.room(len(ids) + 1, 0)
        message = messages.Score(
            request=call.request_id,
            model=request.model,
            ids=[hosted.end_of_text, *ids],
            logprobs=request.logprobs,
            deadline=call.deadline_within(serving.latest_end()),
            identity=identity_of(call.caller, grant),
            priority=grant.priority(request.priority),
        )
        usage, wanted = Usage(prompt_tokens=len(ids)), Wanted(scored_tokens=len(ids))
        with (
            serving.live.entry(call, grant, usage) as entry,
            serving.judge.watching(entry, call.caller, request.access()),
            engine_faults(),
        ):
            async with serving.meter.reserved(entry, call.caller, usage, wanted):
                with ExitStack() as waiting:
                    waiting.enter_context(serving.queue.place(request.model, message.identity))

                    def start() -> None:
                        waiting.close()
                        entry.start()

                    await call.record.open(grant)
                    answer = await serving.models.engines.score(message, on_started=start)
                usage.scored = isinstance(answer, messages.Scored)
        if not isinstance(answer, messages.Scored):
            ended = answer.finish if isinstance(answer, messages.Finished) else messages.Finish.FAILED
            raise CallRefused(FORCED_ENDS.get(ended, Reason.INTERNAL))
        metrics = serving.metrics
        model = metrics.model(grant.model)
        metrics.access.tokens.labels(metrics.partner(grant.partner), model, "input").inc(len(ids))
        metrics.latency.request_seconds.labels(model).observe(serving.clock() - call.arrived, call.trace.exemplar)
        return Scored(
            started=Started(
                request_id=call.request_id,
                client_request_id=request.client_request_id,
                grant=grant,
                weights_sha256=hosted.weights_sha256,
                prompt_tokens=len(ids),
                priority=message.priority,
            ),
            hosted=hosted,
            tokens=tuple(
                messages.Token(request=call.request_id, candidate=0, id=token, logprob=logprob, top=top)
                for token, logprob, top in zip(ids, answer.logprobs, answer.top, strict=True)
            ),
            usage=usage,
        )
