"""What operators close, and the entries of their list: plain frozen data, free of wire messages.

`kind` is the target's name in the API.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """One token."""

    kind: ClassVar[str] = "token"
    issuer: str
    token_id: str
    """Its `jti`."""


@dataclass(frozen=True, slots=True)
class IssuedBeforeTarget:
    """All tokens of an issuer, or of one client or subject of it, issued before a time."""

    kind: ClassVar[str] = "issued_before"
    issuer: str
    time: datetime | None = None
    """With a time zone. None: now, by the server's clock."""
    client_id: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class ClientTarget:
    """One client, whatever token it brings."""

    kind: ClassVar[str] = "client"
    issuer: str
    client_id: str


@dataclass(frozen=True, slots=True)
class SubjectTarget:
    """One subject, whatever token it brings."""

    kind: ClassVar[str] = "subject"
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class KeyTarget:
    """One signing key: all tokens that it signed or will sign."""

    kind: ClassVar[str] = "key"
    issuer: str
    key_id: str
    """Its `kid`."""


@dataclass(frozen=True, slots=True)
class AgreementTarget:
    """One agreement."""

    kind: ClassVar[str] = "agreement"
    agreement: str


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """One model, to every caller."""

    kind: ClassVar[str] = "model"
    model: str


@dataclass(frozen=True, slots=True)
class StageTarget:
    """Back to this earlier stage: what it does not open is closed."""

    kind: ClassVar[str] = "stage"
    stage: str


WithdrawalTarget = (
    TokenTarget
    | IssuedBeforeTarget
    | ClientTarget
    | SubjectTarget
    | KeyTarget
    | AgreementTarget
    | ModelTarget
    | StageTarget
)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What is closed, why, and by whom."""

    id: str
    target: WithdrawalTarget | None
    """None: of a kind that this version of the client does not know."""
    created: datetime
    justification: str
    operator: str
    """Issuer and subject of the operator's token."""
    expires: datetime | None
    """From when on it closes nothing any more, since the tokens have expired by themselves. None: it must be lifted."""
