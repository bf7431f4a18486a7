"""What can go wrong for a caller: one class for each thing that a caller can do about it.

SluicegateError
├── ConfigurationError          fix how the client was set up
│   └── InsecureTransport       use TLS: a token would travel in the clear
├── TokenUnavailable            fix the token source: it has no token to give
│   ├── TokenRefused            fix the client's credentials: the issuer said no
│   └── IssuerUnavailable       try again later: the issuer did not answer
├── EvaluationError             an evaluation cannot go on
│   ├── FileRefused             repair, replace or move away the file that it names
│   └── MeasurementRefused      look at the model: what the server answered cannot count
└── CallError                   the server, or the way to it, ended the call with a status
    ├── AuthenticationFailed    get another token
    ├── AccessDenied            ask for access; the same call will not pass
    ├── InvalidRequest          change the request
    ├── QuotaExceeded           wait for `retry_after` seconds, or ask for less
    ├── Unavailable             try again; another replica may answer at once
    ├── DeadlineExceeded        allow more time, or ask for less
    ├── Cancelled               nothing if this side ended the call; else see `reason`
    ├── ReaderStalled           read the stream faster
    └── ServerFault             report it with the request id
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.client.remedies import remedy_for
from sluicegate.client.results import Usage

if TYPE_CHECKING:
    # The command line starts without gRPC.
    import grpc


class SluicegateError(Exception):
    """Any failure that this package reports."""


class ConfigurationError(SluicegateError):
    """The client cannot be used as it was set up."""


class InsecureTransport(ConfigurationError):
    """A secret would travel over a connection that others can read."""


class TokenUnavailable(SluicegateError):
    """The token source has no token to give. The text never has the secret."""


class TokenRefused(TokenUnavailable):
    """The issuer refused to give a token to these client credentials."""


class IssuerUnavailable(TokenUnavailable):
    """The issuer could not be reached or failed; its answer may come later."""


class EvaluationError(SluicegateError):
    """An evaluation cannot go on. What it has measured so far is kept."""


class FileRefused(EvaluationError):
    """A file that an evaluation reads is damaged, was changed, or is of another form."""


class MeasurementRefused(EvaluationError):
    """What the server answered cannot be counted: no finite number, or of another model than before."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of the request that breaks its rule."""

    field: str
    """Path of the field, e.g. `config.top_p`."""
    description: str
    """The rule that it breaks."""


class CallError(SluicegateError):
    """A call ended with a status other than OK.

    `reason` is the server's machine-readable cause (the names of the proto enum `Reason`), None where
    the status came from the network or a proxy. `metadata` has the server's facts, such as
    `required_scope`. `retry_after` is in seconds, None if the server named no time. `usage` is what a
    stream had counted when it ended, None if it never said.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        request_id: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.request_id = request_id
        self.usage = usage

    @property
    def remedy(self) -> str:
        """One clause: what would let the call through."""
        return remedy_for(self.reason, self.code.name, self.metadata)

    def __str__(self) -> str:
        fields = "".join(f"; {each.field}: {each.description}" for each in self.field_violations)
        return f"{self.message or self.code.name}{fields} ({self.reason or self.code.name}): {self.remedy}"


class AuthenticationFailed(CallError):
    """The server does not accept the token, or there was none.

    Where `reason` is STEP_UP_REQUIRED, a token of another authentication would be accepted: `acr_values`
    and `max_age` are what to ask the issuer for (RFC 9470, section 4).
    """

    @property
    def acr_values(self) -> tuple[str, ...]:
        """Ways to authenticate, one of which the server asks for; empty if any will do."""
        return tuple(self.metadata.get("acr_values", "").split())

    @property
    def max_age(self) -> int | None:
        """Seconds that may have passed since the caller authenticated; None if any time may."""
        value = self.metadata.get("max_age", "")
        return int(value) if re.fullmatch(r"[0-9]{1,12}", value) else None


class AccessDenied(CallError):
    """The caller is known, and may not do this."""


class InvalidRequest(CallError):
    """The request breaks a rule, names what is not there, or cannot be put into a message at all."""


class QuotaExceeded(CallError):
    """A limit of the caller's is reached."""


class Unavailable(CallError):
    """No server could take or finish the call now."""


class DeadlineExceeded(CallError):
    """The time that the caller gave is over."""


class Cancelled(CallError):
    """The call was cancelled: by this side, or by whom `reason` names."""


class ReaderStalled(CallError):
    """The server gave up on a stream that was not read for too long."""


class ServerFault(CallError):
    """The server, or something in front of it, failed."""
