"""The client for code without an event loop.

It runs the asynchronous client on a loop of its own, in one thread. gRPC's blocking stubs would need a second
implementation of streams, token sources and their refresh; this needs none, so both clients behave alike.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from sluicegate.client.cards import ModelCard
from sluicegate.client.channel import Tls
from sluicegate.client.client import DEFAULT_TIMEOUT_SECONDS, Client
from sluicegate.client.findings import (
    Attachment,
    Finding,
    FindingDuty,
    FindingKind,
    FindingSeverity,
    FindingStatus,
)
from sluicegate.client.loop_thread import LoopThread
from sluicegate.client.operations import SyncEngineOperations
from sluicegate.client.provenance import Detection
from sluicegate.client.releases import PolicySimulation, ReleasePlan, StageTransition
from sluicegate.client.requests import GenerationConfig, Prompt, StreamOptions
from sluicegate.client.results import (
    Access,
    Detokenized,
    Event,
    Generation,
    Identity,
    Model,
    QuotaUsage,
    Score,
    Started,
    Token,
    Usage,
)
from sluicegate.client.streams import GenerationStream, ModelWatch
from sluicegate.client.tokens import TokenSource
from sluicegate.client.withdrawals import Withdrawal, WithdrawalTarget

Result = TypeVar("Result")


class SyncGenerationStream:
    """A GenerationStream for a plain `for`."""

    def __init__(self, loop: LoopThread, stream: GenerationStream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def started(self) -> Started | None:
        """What the call runs under; None before the first event."""
        return self._stream.started

    @property
    def usage(self) -> Usage:
        """Tokens counted for the caller so far."""
        return self._stream.usage

    def cancel(self) -> None:
        """End the call, from any thread. A read, also one that waits, raises Cancelled."""
        self._loop.end(_call(self._stream.cancel))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self._loop.run(_next(self._stream))
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.end(self._stream.__aexit__(kind, error, trace))


class SyncModelWatch:
    """A ModelWatch for a plain `for`."""

    def __init__(self, loop: LoopThread, watch: ModelWatch) -> None:
        self._loop = loop
        self._watch = watch

    def cancel(self) -> None:
        """End the call, from any thread. A read, also one that waits, raises Cancelled."""
        self._loop.end(_call(self._watch.cancel))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Model, ...]:
        models = self._loop.run(_next(self._watch))
        if models is None:
            raise StopIteration
        return models

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.end(self._watch.__aexit__(kind, error, trace))


class SyncClient:
    """`Client` with blocking methods of the same names and arguments. Any number of threads may use it."""

    def __init__(
        self,
        target: str,
        *,
        token: TokenSource | str | None = None,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        health_check: str | None = None,
        retry: bool = True,
    ) -> None:
        self._client = Client(target, token=token, tls=tls, timeout=timeout, health_check=health_check, retry=retry)
        self._loop = LoopThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs and close the connections. The client cannot be used again."""
        self._loop.close(self._client.close)

    @property
    def engine(self) -> SyncEngineOperations:
        """What operators ask of one replica, at its operators' listener: make that the client's target."""
        return SyncEngineOperations(self._client.engine, self._loop)

    def stream(
        self,
        model: str,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        options: StreamOptions | None = None,
        purpose: str = "",
        client_request_id: str = "",
        priority: int = 0,
        timeout: float | None = None,
    ) -> SyncGenerationStream:
        """Continue the prompt, with events as the text comes: `with` it, `for` over it."""
        stream = self._client.stream(
            model,
            prompt,
            config,
            options=options,
            purpose=purpose,
            client_request_id=client_request_id,
            priority=priority,
            timeout=timeout,
        )
        return SyncGenerationStream(self._loop, stream)

    def generate(
        self,
        model: str,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        include_tokens: bool | None = None,
        purpose: str = "",
        client_request_id: str = "",
        priority: int = 0,
        timeout: float | None = None,
    ) -> Generation:
        """Continue the prompt, all at once."""
        return self._loop.run(
            self._client.generate(
                model,
                prompt,
                config,
                include_tokens=include_tokens,
                purpose=purpose,
                client_request_id=client_request_id,
                priority=priority,
                timeout=timeout,
            )
        )

    def score(
        self,
        model: str,
        content: Prompt,
        *,
        logprobs: int | None = None,
        purpose: str = "",
        client_request_id: str = "",
        priority: int = 0,
        timeout: float | None = None,
    ) -> Score:
        """The log-probability of each token of a text, with `logprobs` alternatives at each position."""
        return self._loop.run(
            self._client.score(
                model,
                content,
                logprobs=logprobs,
                purpose=purpose,
                client_request_id=client_request_id,
                priority=priority,
                timeout=timeout,
            )
        )

    def tokenize(self, model: str, text: str, *, purpose: str = "", timeout: float | None = None) -> tuple[Token, ...]:
        """The text's tokens."""
        return self._loop.run(self._client.tokenize(model, text, purpose=purpose, timeout=timeout))

    def detokenize(
        self, model: str, token_ids: Sequence[int], *, purpose: str = "", timeout: float | None = None
    ) -> Detokenized:
        """The text of tokens."""
        return self._loop.run(self._client.detokenize(model, token_ids, purpose=purpose, timeout=timeout))

    def cancel_generation(self, request_id: str, *, timeout: float | None = None) -> None:
        """End a call of the same issuer, client and subject that this side does not hold, by its `Started`'s id."""
        self._loop.run(self._client.cancel_generation(request_id, timeout=timeout))

    def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """All models that the caller may know of, smallest first."""
        return self._loop.run(self._client.models(timeout=timeout))

    def model(self, model: str, *, timeout: float | None = None) -> Model:
        """One model."""
        return self._loop.run(self._client.model(model, timeout=timeout))

    def model_card(self, model: str, *, timeout: float | None = None) -> ModelCard:
        """The same with what was measured on its weights, and how it came to be open."""
        return self._loop.run(self._client.model_card(model, timeout=timeout))

    def watch_models(self, *, timeout: float | None = None) -> SyncModelWatch:
        """The models now, and again at each change."""
        return SyncModelWatch(self._loop, self._client.watch_models(timeout=timeout))

    def whoami(self, *, timeout: float | None = None) -> Identity:
        """Who the server takes the caller to be."""
        return self._loop.run(self._client.whoami(timeout=timeout))

    def quotas(self, model: str, *, timeout: float | None = None) -> tuple[QuotaUsage, ...]:
        """How much of its quotas the caller has used, for calls to this model."""
        return self._loop.run(self._client.quotas(model, timeout=timeout))

    def check(
        self,
        model: str,
        *,
        action: str = "generate",
        purpose: str = "",
        response_logprobs: bool = False,
        greedy: bool = False,
        include_tokens: bool = False,
        timeout: float | None = None,
    ) -> Access:
        """Whether a call would be allowed, without making it: `action` is `generate` or `score`."""
        return self._loop.run(
            self._client.check(
                model,
                action=action,
                purpose=purpose,
                response_logprobs=response_logprobs,
                greedy=greedy,
                include_tokens=include_tokens,
                timeout=timeout,
            )
        )

    def detect_text(self, text: str, model: str = "", *, timeout: float | None = None) -> Detection:
        """Look for the watermarks of a model in a text; of all models that the caller may know of without one."""
        return self._loop.run(self._client.detect_text(text, model, timeout=timeout))

    def get_release_plan(self, *, timeout: float | None = None) -> ReleasePlan:
        """The stages, and what is in force. For operators and auditors, as are the next two."""
        return self._loop.run(self._client.get_release_plan(timeout=timeout))

    def list_stage_transitions(self, *, timeout: float | None = None) -> tuple[StageTransition, ...]:
        """The recorded steps from stage to stage, the oldest first."""
        return self._loop.run(self._client.list_stage_transitions(timeout=timeout))

    def simulate_policy(self, files: Mapping[str, bytes], *, timeout: float | None = None) -> PolicySimulation:
        """What a policy would change; nothing is changed. `files`: by name, `release.yaml` and `agreements/….yaml`."""
        return self._loop.run(self._client.simulate_policy(files, timeout=timeout))

    def create_withdrawal(
        self,
        target: WithdrawalTarget,
        justification: str,
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Withdrawal:
        """Close something at once, in running calls too. For operators, as are the next two."""
        return self._loop.run(
            self._client.create_withdrawal(target, justification, validate_only=validate_only, timeout=timeout)
        )

    def list_withdrawals(self, *, timeout: float | None = None) -> tuple[Withdrawal, ...]:
        """Everything that is closed now, the oldest first."""
        return self._loop.run(self._client.list_withdrawals(timeout=timeout))

    def lift_withdrawal(
        self,
        withdrawal: str,
        justification: str,
        *,
        signatures: Mapping[str, str] | None = None,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Take a withdrawal back, by its id. `signatures`: by signer."""
        self._loop.run(
            self._client.lift_withdrawal(
                withdrawal, justification, signatures=signatures, validate_only=validate_only, timeout=timeout
            )
        )

    def create_finding(
        self,
        model: str,
        kind: FindingKind,
        severity: FindingSeverity,
        summary: str,
        *,
        details: str = "",
        attachments: Sequence[Attachment] = (),
        client_request_id: str = "",
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Finding:
        """File a finding on a model: under the caller's agreement, or else for its client."""
        return self._loop.run(
            self._client.create_finding(
                model,
                kind,
                severity,
                summary,
                details=details,
                attachments=attachments,
                client_request_id=client_request_id,
                validate_only=validate_only,
                timeout=timeout,
            )
        )

    def get_finding(self, finding: str, *, timeout: float | None = None) -> Finding:
        """One finding, by its id."""
        return self._loop.run(self._client.get_finding(finding, timeout=timeout))

    def list_findings(self, *, model: str = "", partner: str = "", timeout: float | None = None) -> tuple[Finding, ...]:
        """The caller's findings, or an operator's view of everybody's, the newest first."""
        return self._loop.run(self._client.list_findings(model=model, partner=partner, timeout=timeout))

    def review_finding(
        self,
        finding: str,
        status: FindingStatus,
        justification: str,
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Finding:
        """Say what a finding is worth, in the place of what was said before. For operators, as is the next."""
        return self._loop.run(
            self._client.review_finding(finding, status, justification, validate_only=validate_only, timeout=timeout)
        )

    def list_finding_duties(self, *, timeout: float | None = None) -> tuple[FindingDuty, ...]:
        """The agreements in force that ask for findings, and when the next one of each is due."""
        return self._loop.run(self._client.list_finding_duties(timeout=timeout))


async def _next(source: AsyncIterator[Result]) -> Result | None:
    """The next item; None at the end (StopIteration cannot leave a coroutine)."""
    return await anext(source, None)


async def _call(work: Callable[[], None]) -> None:
    work()
