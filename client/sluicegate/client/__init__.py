"""The Sluicegate client: `Client` for asyncio, `SyncClient` for everything else.

Names load when they are first used: the command line starts without gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluicegate.client.cards import (
        BiasEvaluation,
        ConfidenceInterval,
        MemorisationEvaluation,
        ModelCard,
        OpeningChange,
        WatermarkEvaluation,
        WatermarkPower,
    )
    from sluicegate.client.channel import Tls
    from sluicegate.client.client import Client
    from sluicegate.client.engines import ActiveRequest, DrainPlan, EngineLoad, ModelLoad, RequestState
    from sluicegate.client.errors import (
        AccessDenied,
        AuthenticationFailed,
        CallError,
        Cancelled,
        ConfigurationError,
        DeadlineExceeded,
        FieldViolation,
        InsecureTransport,
        InvalidRequest,
        IssuerUnavailable,
        QuotaExceeded,
        ReaderStalled,
        ServerFault,
        SluicegateError,
        TokenRefused,
        TokenUnavailable,
        Unavailable,
    )
    from sluicegate.client.findings import (
        Attachment,
        Finding,
        FindingDuty,
        FindingKind,
        FindingReview,
        FindingSeverity,
        FindingStatus,
    )
    from sluicegate.client.oidc import ClientCredentials
    from sluicegate.client.operations import EngineOperations, SyncEngineOperations
    from sluicegate.client.provenance import Detection, Verdict, WatermarkCheck
    from sluicegate.client.releases import (
        AccessChange,
        AccessShift,
        CallerKind,
        DifferenceEffect,
        DifferenceSigning,
        PolicyDifference,
        PolicyProblem,
        PolicySimulation,
        ReleasePlan,
        Replay,
        ReplayGroup,
        ReplayState,
        RequirementState,
        Stage,
        StageRequirement,
        StageTransition,
    )
    from sluicegate.client.requests import GenerationConfig, Prompt, StreamOptions
    from sluicegate.client.results import (
        Access,
        Agreement,
        Audience,
        CallerAccess,
        Candidate,
        Delta,
        Detokenized,
        Event,
        Finished,
        FinishReason,
        Generation,
        Identity,
        Model,
        ModelState,
        PersonalDataType,
        QuotaUsage,
        Score,
        Started,
        Token,
        TopToken,
        Usage,
        Watermark,
    )
    from sluicegate.client.streams import GenerationStream, ModelWatch
    from sluicegate.client.sync import SyncClient, SyncGenerationStream, SyncModelWatch
    from sluicegate.client.tokens import CallableToken, FileToken, StaticToken, TokenSource
    from sluicegate.client.withdrawals import (
        AgreementTarget,
        ClientTarget,
        IssuedBeforeTarget,
        KeyTarget,
        ModelTarget,
        StageTarget,
        SubjectTarget,
        TokenTarget,
        Withdrawal,
        WithdrawalTarget,
    )

__all__ = [
    "Access",
    "AccessChange",
    "AccessDenied",
    "AccessShift",
    "ActiveRequest",
    "Agreement",
    "AgreementTarget",
    "Attachment",
    "Audience",
    "AuthenticationFailed",
    "BiasEvaluation",
    "CallError",
    "CallableToken",
    "CallerAccess",
    "CallerKind",
    "Cancelled",
    "Candidate",
    "Client",
    "ClientCredentials",
    "ClientTarget",
    "ConfidenceInterval",
    "ConfigurationError",
    "DeadlineExceeded",
    "Delta",
    "Detection",
    "Detokenized",
    "DifferenceEffect",
    "DifferenceSigning",
    "DrainPlan",
    "EngineLoad",
    "EngineOperations",
    "Event",
    "FieldViolation",
    "FileToken",
    "Finding",
    "FindingDuty",
    "FindingKind",
    "FindingReview",
    "FindingSeverity",
    "FindingStatus",
    "FinishReason",
    "Finished",
    "Generation",
    "GenerationConfig",
    "GenerationStream",
    "Identity",
    "InsecureTransport",
    "InvalidRequest",
    "IssuedBeforeTarget",
    "IssuerUnavailable",
    "KeyTarget",
    "MemorisationEvaluation",
    "Model",
    "ModelCard",
    "ModelLoad",
    "ModelState",
    "ModelTarget",
    "ModelWatch",
    "OpeningChange",
    "PersonalDataType",
    "PolicyDifference",
    "PolicyProblem",
    "PolicySimulation",
    "Prompt",
    "QuotaExceeded",
    "QuotaUsage",
    "ReaderStalled",
    "ReleasePlan",
    "Replay",
    "ReplayGroup",
    "ReplayState",
    "RequestState",
    "RequirementState",
    "Score",
    "ServerFault",
    "SluicegateError",
    "Stage",
    "StageRequirement",
    "StageTarget",
    "StageTransition",
    "Started",
    "StaticToken",
    "StreamOptions",
    "SubjectTarget",
    "SyncClient",
    "SyncEngineOperations",
    "SyncGenerationStream",
    "SyncModelWatch",
    "Tls",
    "Token",
    "TokenRefused",
    "TokenSource",
    "TokenTarget",
    "TokenUnavailable",
    "TopToken",
    "Unavailable",
    "Usage",
    "Verdict",
    "Watermark",
    "WatermarkCheck",
    "WatermarkEvaluation",
    "WatermarkPower",
    "Withdrawal",
    "WithdrawalTarget",
]

_MODULES = (
    "cards",
    "channel",
    "client",
    "engines",
    "errors",
    "findings",
    "oidc",
    "operations",
    "provenance",
    "releases",
    "requests",
    "results",
    "streams",
    "sync",
    "tokens",
    "withdrawals",
)


def __getattr__(name: str) -> object:
    """The public name, from the module that defines it (PEP 562)."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}"))
            if name in found:
                globals()[name] = found[name]
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
