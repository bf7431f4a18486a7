"""Withdrawals: what an operator has closed, and the history that tells a reader whether it has seen all of it.

Every change, a withdrawal or its lifting, is one step of the store's history and leaves a random mark there. A reader
remembers how far it has read (`Version`) and shows it with the next question; the store answers only if that step, with
that mark, is in its past. An empty store, another one, and one restored from an old copy are noticed, also when the
old copy has meanwhile grown past what the reader knew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from types import MappingProxyType

from sluicegate.server.state.errors import StoreUnsuitable

KEPT_SECONDS = 86_400
"""An entry is forgotten so long after it was of use last: a clock that is ahead for a while opens no door for good."""


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """One token. None of this `jti` is valid from `expires_at` on (Unix seconds): the entry is of no more use then."""

    issuer: str
    jti: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class IssuedBeforeTarget:
    """All tokens with `iat` before a time (Unix seconds), of the issuer or only of one client or subject of it.

    From `expires_at` on all of them have expired by themselves, and the entry is of no more use.
    """

    issuer: str
    issued_before: int
    expires_at: int
    client: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class ClientTarget:
    """One client, whatever token it brings."""

    issuer: str
    client: str


@dataclass(frozen=True, slots=True)
class SubjectTarget:
    """One subject, whatever token it brings."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class KeyTarget:
    """One signing key: all tokens that it has signed or will sign."""

    issuer: str
    kid: str


@dataclass(frozen=True, slots=True)
class AgreementTarget:
    """One agreement."""

    agreement: str


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """One model, to every caller."""

    model: str


@dataclass(frozen=True, slots=True)
class StageTarget:
    """Back to this earlier stage."""

    stage: str


Target = (
    TokenTarget
    | IssuedBeforeTarget
    | ClientTarget
    | SubjectTarget
    | KeyTarget
    | AgreementTarget
    | ModelTarget
    | StageTarget
)

KINDS = MappingProxyType(
    {
        "token": TokenTarget,
        "issued_before": IssuedBeforeTarget,
        "client": ClientTarget,
        "subject": SubjectTarget,
        "key": KeyTarget,
        "agreement": AgreementTarget,
        "model": ModelTarget,
        "stage": StageTarget,
    }
)
_KIND_OF = MappingProxyType({target: kind for kind, target in KINDS.items()})


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One entry of the list. `created_at`: Unix seconds."""

    id: str
    target: Target
    created_at: int
    justification: str
    operator: str

    @property
    def kind(self) -> str:
        return _KIND_OF[type(self.target)]

    @property
    def expires_at(self) -> int | None:
        """Unix seconds from which on the entry closes nothing any more; None if it stays until it is lifted."""
        return self.target.expires_at if isinstance(self.target, TokenTarget | IssuedBeforeTarget) else None


@dataclass(frozen=True, slots=True)
class Version:
    """How far a reader has read: the store, the number of changes, and the mark of the last one."""

    store: str
    epoch: int
    mark: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole list at one version, the oldest entry first."""

    version: Version
    entries: tuple[Withdrawal, ...]


def encode(withdrawal: Withdrawal) -> str:
    """One entry as the stores keep it."""
    return json.dumps({**asdict(withdrawal), "kind": withdrawal.kind})


def decode(text: str) -> Withdrawal:
    """The entry of a text of `encode`. Raises StoreUnsuitable for one that this release does not understand.

    To skip such an entry would be to open what a newer release has closed.
    """
    try:
        entry = json.loads(text)
        return Withdrawal(
            id=entry["id"],
            target=KINDS[entry["kind"]](**entry["target"]),
            created_at=entry["created_at"],
            justification=entry["justification"],
            operator=entry["operator"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreUnsuitable("a withdrawal in the store was written by another release; run that one") from error
