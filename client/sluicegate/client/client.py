"""The asynchronous client."""

# A timeout here is a gRPC deadline: the server plans by it, which no asyncio.timeout around the call could do.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc

from sluicegate.client import card_wire, finding_wire, provenance_wire, release_wire, wire, withdrawal_wire
from sluicegate.client.calls import Caller, Deadline, Reading
from sluicegate.client.cards import ModelCard
from sluicegate.client.channel import Tls, open_channel, require_private
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.findings import (
    Attachment,
    Finding,
    FindingDuty,
    FindingKind,
    FindingSeverity,
    FindingStatus,
)
from sluicegate.client.operations import EngineOperations
from sluicegate.client.provenance import Detection
from sluicegate.client.releases import PolicySimulation, ReleasePlan, StageTransition
from sluicegate.client.requests import GenerationConfig, Prompt, StreamOptions
from sluicegate.client.results import Access, Detokenized, Generation, Identity, Model, QuotaUsage, Score, Token
from sluicegate.client.streams import GenerationStream, ModelWatch
from sluicegate.client.targets import is_target
from sluicegate.client.tokens import StaticToken, TokenSource
from sluicegate.client.withdrawals import Withdrawal, WithdrawalTarget
from sluicegate.v1 import (
    access_service_pb2,
    finding_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    release_service_pb2,
    withdrawal_service_pb2,
)
from sluicegate.v1.access_service_pb2_grpc import AccessServiceStub
from sluicegate.v1.engine_service_pb2_grpc import EngineServiceStub
from sluicegate.v1.finding_service_pb2_grpc import FindingServiceStub
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub
from sluicegate.v1.model_service_pb2_grpc import ModelServiceStub
from sluicegate.v1.provenance_service_pb2_grpc import ProvenanceServiceStub
from sluicegate.v1.release_service_pb2_grpc import ReleaseServiceStub
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

if TYPE_CHECKING:
    # The generated stubs serve both worlds at run time; only their types differ.
    from sluicegate.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from sluicegate.v1.engine_service_pb2_grpc import EngineServiceAsyncStub
    from sluicegate.v1.finding_service_pb2_grpc import FindingServiceAsyncStub
    from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub
    from sluicegate.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from sluicegate.v1.provenance_service_pb2_grpc import ProvenanceServiceAsyncStub
    from sluicegate.v1.release_service_pb2_grpc import ReleaseServiceAsyncStub
    from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceAsyncStub

DEFAULT_TIMEOUT_SECONDS = 60.0
_PAGE_SIZE = 100


class _Services:
    """An open channel and its stubs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.generation = cast("GenerationServiceAsyncStub", GenerationServiceStub(self.channel))
        self.models = cast("ModelServiceAsyncStub", ModelServiceStub(self.channel))
        self.access = cast("AccessServiceAsyncStub", AccessServiceStub(self.channel))
        self.provenance = cast("ProvenanceServiceAsyncStub", ProvenanceServiceStub(self.channel))
        self.release = cast("ReleaseServiceAsyncStub", ReleaseServiceStub(self.channel))
        self.findings = cast("FindingServiceAsyncStub", FindingServiceStub(self.channel))
        self.engine = cast("EngineServiceAsyncStub", EngineServiceStub(self.channel))
        self.withdrawals = cast("WithdrawalServiceAsyncStub", WithdrawalServiceStub(self.channel))


class Client:
    """Calls a Sluicegate server. Belongs to the event loop of its first call; any number of tasks may use it.

    `target` is gRPC's: `host:port` or `dns:///host:port`, whose addresses get calls in turn, `unix:/path`, or
    several replicas as `ipv4:ADDRESS:PORT,ADDRESS:PORT` (with `tls.server_name`). `token` is a token source,
    or a token; None calls anonymously. `timeout` is the default for each call in seconds, `math.inf` for no
    limit. `health_check` names a service of the server's health, "" the server: replicas that do not serve it
    are passed over. Not for a target that is a proxy, which would pass the question to any one replica. It
    carries no token, so `models/ID` is for models that callers without one may know of; of others no replica
    serves it. `retry`: a call that no replica could take (Unavailable) is sent again by itself, up to three
    times.

    Raises InsecureTransport if a token would leave this machine without TLS. Every call may raise
    TokenUnavailable and the CallErrors; see errors.py.
    """

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
        if not is_target(target):
            raise ConfigurationError(
                "the target is `host:port`, `dns:///host:port`, `unix:/path`, or several replicas as "
                "`ipv4:ADDRESS:PORT,ADDRESS:PORT`; not a URL, and without spaces"
            )
        if token is not None:
            require_private(target, tls)
        Deadline.after(timeout)
        self._target = target
        self._tls = tls
        self._timeout = timeout
        self._health_check = health_check
        self._retry = retry
        self._caller = Caller(StaticToken(token) if isinstance(token, str) else token)
        self._open: _Services | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._services()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what runs and close the connections. The client cannot be used again."""
        self._is_closed = True
        services, self._open = self._open, None
        if services is not None:
            await services.channel.close()

    @property
    def engine(self) -> EngineOperations:
        """What operators ask of one replica, at its operators' listener: make that the client's target."""
        return EngineOperations(self._caller, lambda: self._services().engine, self._deadline)

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
    ) -> GenerationStream:
        """Continue the prompt, with events as the text comes: `async with` it, `async for` over it.

        Raises InvalidRequest at once for what no message can carry; everything else at the first read.
        """
        request = wire.message(
            generation_service_pb2.StreamGenerateRequest,
            model=model,
            config=wire.config_message(config),
            purpose=purpose,
            client_request_id=client_request_id,
            priority=priority,
            stream_options=wire.options_message(options),
        )
        wire.set_prompt(request, prompt)
        deadline = self._deadline(timeout)
        return GenerationStream(
            Reading(self._caller, lambda: self._services().generation.StreamGenerate, request, deadline)
        )

    async def generate(
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
        request = wire.message(
            generation_service_pb2.GenerateRequest,
            model=model,
            config=wire.config_message(config),
            purpose=purpose,
            client_request_id=client_request_id,
            priority=priority,
            include_tokens=include_tokens,
        )
        wire.set_prompt(request, prompt)
        method = self._services().generation.Generate
        return wire.generation(await self._caller.unary(method, request, self._deadline(timeout)))

    async def score(
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
        request = wire.message(
            generation_service_pb2.ScoreRequest,
            model=model,
            logprobs=logprobs,
            purpose=purpose,
            client_request_id=client_request_id,
            priority=priority,
        )
        wire.set_prompt(request, content)
        method = self._services().generation.Score
        return wire.score(await self._caller.unary(method, request, self._deadline(timeout)))

    async def tokenize(
        self, model: str, text: str, *, purpose: str = "", timeout: float | None = None
    ) -> tuple[Token, ...]:
        """The text's tokens."""
        request = wire.message(generation_service_pb2.TokenizeRequest, model=model, text=text, purpose=purpose)
        method = self._services().generation.Tokenize
        response = await self._caller.unary(method, request, self._deadline(timeout))
        return wire.tokens(response.tokens)

    async def detokenize(
        self, model: str, token_ids: Sequence[int], *, purpose: str = "", timeout: float | None = None
    ) -> Detokenized:
        """The text of tokens."""
        request = wire.message(
            generation_service_pb2.DetokenizeRequest, model=model, token_ids=token_ids, purpose=purpose
        )
        method = self._services().generation.Detokenize
        response = await self._caller.unary(method, request, self._deadline(timeout))
        return Detokenized(text=response.text, bytes=response.bytes)

    async def cancel_generation(self, request_id: str, *, timeout: float | None = None) -> None:
        """End a call of the same issuer, client and subject that this side does not hold, by the id of its `Started`.

        It reaches the replica that answers, and no other. Raises InvalidRequest, with reason REQUEST_UNKNOWN, if no
        such call is under way there.
        """
        request = wire.message(generation_service_pb2.CancelGenerationRequest, request_id=request_id)
        await self._caller.unary(self._services().generation.CancelGeneration, request, self._deadline(timeout))

    async def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """All models that the caller may know of, smallest first. The timeout is for all pages together."""
        deadline = self._deadline(timeout)
        found: list[Model] = []
        page_token = ""
        while True:
            request = model_service_pb2.ListModelsRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._caller.unary(self._services().models.ListModels, request, deadline)
            found.extend(wire.models(page.models))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    async def model(self, model: str, *, timeout: float | None = None) -> Model:
        """One model. One that is not open to the caller is AccessDenied, as is one that does not exist."""
        request = wire.message(model_service_pb2.GetModelRequest, model=model)
        method = self._services().models.GetModel
        return wire.model((await self._caller.unary(method, request, self._deadline(timeout))).model)

    async def model_card(self, model: str, *, timeout: float | None = None) -> ModelCard:
        """The same with what was measured on its weights, and how it came to be open."""
        request = wire.message(model_service_pb2.GetModelRequest, model=model)
        method = self._services().models.GetModel
        return card_wire.card(await self._caller.unary(method, request, self._deadline(timeout)))

    def watch_models(self, *, timeout: float | None = None) -> ModelWatch:
        """The models now, and again at each change. Without a timeout of its own it has none.

        Ends with Unavailable when its replica goes or its connection has grown old: begin another one then.
        """
        request = model_service_pb2.WatchModelsRequest()
        deadline = Deadline.after(timeout)
        return ModelWatch(Reading(self._caller, lambda: self._services().models.WatchModels, request, deadline))

    async def whoami(self, *, timeout: float | None = None) -> Identity:
        """Who the server takes the caller to be."""
        request = access_service_pb2.GetCallerIdentityRequest()
        method = self._services().access.GetCallerIdentity
        return wire.identity(await self._caller.unary(method, request, self._deadline(timeout)))

    async def quotas(self, model: str, *, timeout: float | None = None) -> tuple[QuotaUsage, ...]:
        """How much of its quotas the caller has used, for calls to this model; those without a limit are left out."""
        deadline = self._deadline(timeout)
        found: list[QuotaUsage] = []
        page_token = ""
        while True:
            request = wire.message(
                access_service_pb2.ListQuotasRequest, model=model, page_size=_PAGE_SIZE, page_token=page_token
            )
            page = await self._caller.unary(self._services().access.ListQuotas, request, deadline)
            found.extend(wire.quotas(page.quotas))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    async def check(
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
        request = wire.message(
            access_service_pb2.CheckAccessRequest,
            action=action,
            model=model,
            purpose=purpose,
            response_logprobs=response_logprobs,
            greedy=greedy,
            include_tokens=include_tokens,
        )
        method = self._services().access.CheckAccess
        return wire.access(await self._caller.unary(method, request, self._deadline(timeout)))

    async def detect_text(self, text: str, model: str = "", *, timeout: float | None = None) -> Detection:
        """Look for the watermarks of a model in a text; of all models that the caller may know of without one."""
        request = provenance_wire.detect_request(text, model)
        method = self._services().provenance.DetectText
        return provenance_wire.detection(await self._caller.unary(method, request, self._deadline(timeout)))

    async def get_release_plan(self, *, timeout: float | None = None) -> ReleasePlan:
        """The stages, and what is in force. For operators and auditors, as are the next two."""
        request = release_service_pb2.GetReleasePlanRequest()
        method = self._services().release.GetReleasePlan
        return release_wire.plan((await self._caller.unary(method, request, self._deadline(timeout))).plan)

    async def list_stage_transitions(self, *, timeout: float | None = None) -> tuple[StageTransition, ...]:
        """The recorded steps from stage to stage, the oldest first."""
        deadline = self._deadline(timeout)
        found: list[StageTransition] = []
        page_token = ""
        while True:
            request = release_service_pb2.ListStageTransitionsRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._caller.unary(self._services().release.ListStageTransitions, request, deadline)
            found.extend(release_wire.transitions(page.transitions))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    async def simulate_policy(self, files: Mapping[str, bytes], *, timeout: float | None = None) -> PolicySimulation:
        """What a policy would change; nothing is changed. `files`: by name, `release.yaml` and `agreements/….yaml`.

        Raises InvalidRequest for a policy that is bad in itself, with its problems as `field_violations`.
        """
        request = release_wire.simulate_request(files)
        method = self._services().release.SimulatePolicy
        return release_wire.simulation(await self._caller.unary(method, request, self._deadline(timeout)))

    async def create_withdrawal(
        self,
        target: WithdrawalTarget,
        justification: str,
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Withdrawal:
        """Close something at once, in running calls too. For operators, as are the next two.

        `justification` is for those who read the list later. With `validate_only` nothing is closed, and the id stands
        for nothing.
        """
        request = withdrawal_wire.create_request(target, justification, validate_only=validate_only)
        method = self._services().withdrawals.CreateWithdrawal
        response = await self._caller.unary(method, request, self._deadline(timeout))
        return withdrawal_wire.withdrawal(response.withdrawal)

    async def list_withdrawals(self, *, timeout: float | None = None) -> tuple[Withdrawal, ...]:
        """Everything that is closed now, the oldest first."""
        deadline = self._deadline(timeout)
        found: list[Withdrawal] = []
        page_token = ""
        while True:
            request = withdrawal_service_pb2.ListWithdrawalsRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._caller.unary(self._services().withdrawals.ListWithdrawals, request, deadline)
            found.extend(withdrawal_wire.listed(page.withdrawals))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    async def lift_withdrawal(
        self,
        withdrawal: str,
        justification: str,
        *,
        signatures: Mapping[str, str] | None = None,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Take a withdrawal back, by its id. `signatures`: by signer, as `sluicegate policy sign-lifting` makes them.

        Raises InvalidRequest, with reason SIGNATURES_REQUIRED where more people must sign.
        """
        request = withdrawal_wire.lift_request(withdrawal, justification, signatures or {}, validate_only=validate_only)
        await self._caller.unary(self._services().withdrawals.LiftWithdrawal, request, self._deadline(timeout))

    async def create_finding(
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
        """File a finding on a model: under the caller's agreement, or else for its client.

        The same one again under the same `client_request_id` is not filed again; without one the client makes one up
        for this call. Of attachments nothing but what stands here is sent. With `validate_only` nothing is filed, and
        the id stands for nothing. Raises QuotaExceeded after too many in a day.
        """
        request = finding_wire.create_request(
            model,
            kind,
            severity,
            summary,
            details=details,
            attachments=attachments,
            client_request_id=client_request_id,
            validate_only=validate_only,
        )
        method = self._services().findings.CreateFinding
        return finding_wire.finding((await self._caller.unary(method, request, self._deadline(timeout))).finding)

    async def get_finding(self, finding: str, *, timeout: float | None = None) -> Finding:
        """One finding, by its id. Raises InvalidRequest (FINDING_UNKNOWN), also for one that is not the caller's."""
        request = wire.message(finding_service_pb2.GetFindingRequest, id=finding)
        method = self._services().findings.GetFinding
        return finding_wire.finding((await self._caller.unary(method, request, self._deadline(timeout))).finding)

    async def list_findings(
        self, *, model: str = "", partner: str = "", timeout: float | None = None
    ) -> tuple[Finding, ...]:
        """The findings that the caller may see, the newest first: all, or on one model, or of one partner."""
        deadline = self._deadline(timeout)
        found: list[Finding] = []
        page_token = ""
        while True:
            request = wire.message(
                finding_service_pb2.ListFindingsRequest,
                page_size=_PAGE_SIZE,
                page_token=page_token,
                model=model,
                partner=partner,
            )
            page = await self._caller.unary(self._services().findings.ListFindings, request, deadline)
            found.extend(finding_wire.listed(page.findings))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    async def review_finding(
        self,
        finding: str,
        status: FindingStatus,
        justification: str,
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Finding:
        """Say what a finding is worth, in the place of what was said before. For operators, as is the next.

        Its reporter can read the justification.
        """
        request = finding_wire.review_request(finding, status, justification, validate_only=validate_only)
        method = self._services().findings.ReviewFinding
        return finding_wire.finding((await self._caller.unary(method, request, self._deadline(timeout))).finding)

    async def list_finding_duties(self, *, timeout: float | None = None) -> tuple[FindingDuty, ...]:
        """The agreements in force that ask for findings, and when the next one of each is due."""
        deadline = self._deadline(timeout)
        found: list[FindingDuty] = []
        page_token = ""
        while True:
            request = finding_service_pb2.ListFindingDutiesRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._caller.unary(self._services().findings.ListFindingDuties, request, deadline)
            found.extend(finding_wire.duties(page.duties))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline.after(self._timeout if timeout is None else timeout)

    def _services(self) -> _Services:
        if self._is_closed:
            raise ConfigurationError("the client is closed")
        if self._open is None:
            asyncio.get_running_loop()
            self._open = _Services(
                open_channel(self._target, tls=self._tls, health_check=self._health_check, retry=self._retry)
            )
        return self._open
