"""The Sluicegate client: `Client` for asyncio, `SyncClient` for everything else.

Names load when they are first used: the command line starts without gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluicegate.client.channel import Tls
    from sluicegate.client.client import Client
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
    from sluicegate.client.oidc import ClientCredentials
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
        QuotaUsage,
        Score,
        Started,
        Token,
        TopToken,
        Usage,
    )
    from sluicegate.client.streams import GenerationStream, ModelWatch
    from sluicegate.client.sync import SyncClient, SyncGenerationStream, SyncModelWatch
    from sluicegate.client.tokens import CallableToken, FileToken, StaticToken, TokenSource

__all__ = [
    "Access",
    "AccessDenied",
    "Agreement",
    "Audience",
    "AuthenticationFailed",
    "CallError",
    "CallableToken",
    "CallerAccess",
    "Cancelled",
    "Candidate",
    "Client",
    "ClientCredentials",
    "ConfigurationError",
    "DeadlineExceeded",
    "Delta",
    "Detokenized",
    "Event",
    "FieldViolation",
    "FileToken",
    "FinishReason",
    "Finished",
    "Generation",
    "GenerationConfig",
    "GenerationStream",
    "Identity",
    "InsecureTransport",
    "InvalidRequest",
    "IssuerUnavailable",
    "Model",
    "ModelState",
    "ModelWatch",
    "Prompt",
    "QuotaExceeded",
    "QuotaUsage",
    "ReaderStalled",
    "Score",
    "ServerFault",
    "SluicegateError",
    "Started",
    "StaticToken",
    "StreamOptions",
    "SyncClient",
    "SyncGenerationStream",
    "SyncModelWatch",
    "Tls",
    "Token",
    "TokenRefused",
    "TokenSource",
    "TokenUnavailable",
    "TopToken",
    "Unavailable",
    "Usage",
]

_MODULES = ("channel", "client", "errors", "oidc", "requests", "results", "streams", "sync", "tokens")


def __getattr__(name: str) -> object:
    """The public name, from the module that defines it (PEP 562)."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}"))
            if name in found:
                globals()[name] = found[name]
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
