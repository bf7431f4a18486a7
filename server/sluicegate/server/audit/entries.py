"""What stands in an audit log: one dataclass for each kind of entry.

Never a prompt, an output, an address, a token, or a subject or client by name: there is no field for one. Texts are
short names on one line, and an operator's own words about what was ordered; people and clients come as
pseudonyms (pseudonyms.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from sluicegate.auth import Audience, Reason

FORMAT = "sluicegate/audit/v1"
OTHER = "other"
"""Stands for a model or a purpose that the policy does not have: such names are the caller's text."""

Name = Annotated[str, Meta(max_length=255, pattern=r"\A[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+\Z")]
"""1 to 255 characters on one line."""
Scope = Annotated[str, Meta(max_length=512, pattern=r"\A[\x21-\x7e]+\Z")]
Words = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\A[^\ud800-\udfff]*\Z")]
"""What an operator wrote: 1 to 500 characters."""
Code = Annotated[str, Meta(pattern=r"\A[A-Z_]{2,32}\Z")]
"""A gRPC status code, as PERMISSION_DENIED."""
Pseudonym = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Time = Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""What a JSON number holds exactly (RFC 8785, section 3.2.2.3)."""


class Decision(StrEnum):
    """What was decided on a call."""

    ALLOWED = "allowed"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A call of a verified or anonymous caller, as it was decided. An allowed call is open until its Closing."""

    call: Name
    """The request id, which the caller was told too."""
    decision: Decision
    reason: Reason | None = None
    """Of a denial."""
    code: Code
    policy_revision: Name
    stage: Name
    audience: Audience | None
    """None where the decision did not come that far."""
    partner: Name
    """`public`, `internal` or the partner's name."""
    client: Pseudonym | None
    subject: Pseudonym | None
    jti_hash: Pseudonym | None
    kid: Name | None
    scopes: tuple[Scope, ...] = ()
    agreement: Name | None = None
    """The one that the call comes under, or `other` for one that the policy does not have; None without a claim."""
    is_claimed_by_token: bool = False
    """The token names the agreement. Otherwise the agreement names the client."""
    purpose: Name | None = None
    """One that the claimed agreement has, or `other`: what else a caller writes here is the caller's text."""
    action: Name
    """generate, score or tokenize; for a call that did not come to ask for it, its method's name."""
    model: Name | None
    """One that the policy has, or `other`; None for a call that did not come to ask for one."""
    logprobs: bool = False
    greedy: bool = False
    token_bytes: bool = False
    token_terms_met: tuple[Name, ...] = ()
    """Which of the agreement's terms for tokens were checked and held."""
    network: Count | None = None
    """Index of the agreement's network that the call came from."""
    reserved_tokens: Count = 0
    """The most that may be emitted under this entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of an allowed call."""

    call: Name
    input_tokens: Count = 0
    """Tokens read: of the prompt, once the model had it, or of the text that was scored."""
    emitted_tokens: Count
    finish: Name | None = None
    """The finish reason, where the call's own limits ended it; of several candidates those there were, with `+`."""
    code: Code
    reason: Reason | None = None
    """Of another end than its own limits."""
    redactions: Mapping[Name, Count] = field(default_factory=dict)
    """How many of each type."""
    flags: Mapping[Name, Count] = field(default_factory=dict)
    watermark_key: Name | None = None
    """Id of the key, where the output was watermarked."""
    duration_ms: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A call that was open when its server died. What it emitted is at most what its Opening reserved."""

    call: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """An operator's order to close a door, or to open it again (`lifted`); written before it is carried out."""

    id: Name
    withdrawal: Name
    """Kind: token, issued_before, client, subject, agreement, key, model or stage."""
    target: Name
    """An id of the policy or of a key; for a token, a client and a subject its pseudonym; for tokens issued before a
    time that time, in Unix seconds, with the pseudonyms of client and subject."""
    lifted: bool = False
    by: tuple[Pseudonym, ...]
    signers: tuple[Name, ...] = ()
    """Whose signatures the lifting had."""
    justification: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalsInForce:
    """This replica goes by another list of withdrawals than before: the one after this change in the state store.

    A store that does not know the change has forgotten withdrawals, or is another one.
    """

    store: Name
    """Random id of the store."""
    change: Count
    """Number of the change; 0 before the first."""
    mark: Name | None
    """Random mark of the change; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """Another policy is in force, and maybe another stage."""

    revision: Name
    previous_revision: Name | None
    """None at the start of the server."""
    stage: Name
    previous_stage: Name | None
    signatures_checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFiled:
    """A finding was filed on a model. What it says stands in the state store, not here."""

    id: Name
    sha256: Sha256
    """Of its canonical form."""
    finding: Name
    """Kind: bias, misuse, detectability, memorisation or other."""
    severity: Name
    model: Name
    stage: Name
    partner: Name
    """`public`, `internal` or the partner's name."""
    agreement: Name | None
    client: Pseudonym | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingReviewed:
    """An operator's order to put a review beside a finding; written before it is carried out."""

    id: Name
    """The finding's."""
    sha256: Sha256
    """The finding's."""
    status: Name
    """open, accepted or rejected."""
    by: tuple[Pseudonym, ...]
    justification: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """An operator's order to an engine of this replica; written, or to be written, when it is carried out."""

    operation: Name
    """cancel_request, load_model, unload_model or drain."""
    target: Name
    """The request id or the model; `replica` for all of it."""
    by: tuple[Pseudonym, ...]
    justification: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Denials:
    """How many calls without a verified caller were turned away, so that strangers cannot fill the disk."""

    since: Time
    """Start of the first minute counted; `until` is the end of the last."""
    until: Time
    counts: Mapping[Reason, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The log could not be written for a while, and can be again."""

    since: Time
    cause: Name
    openings_lost: Count
    """Calls that have no Opening for that. They were refused, unless the policy serves the public without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signature over the chain up to the entry before this one."""

    head: Sha256
    """Hash of the entry before."""
    signature: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{86}\Z")]
    """Ed25519, base64url; see `chain.checkpoint_payload`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The file is full, and the log goes on in the file of this number."""

    next_file: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The last entry of the file before."""

    file: Count
    entry: Count
    hash: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class TornPiece:
    """What a crash left half-written, and where it is kept."""

    file: Name
    bytes: Count
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first entry of each file."""

    format: Name
    log: Pseudonym
    """Random id of the log, the same in all its files."""
    deployment: Name
    replica: Name
    public_key: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
    """Ed25519 key of the checkpoints of this file, base64url. Only one known from elsewhere proves anything."""
    file: Count
    """Number of this file, from 1."""
    previous: Link | None
    unsigned: Count
    """Entries since the last checkpoint."""
    open_calls: Mapping[Name, Count]
    """Calls open when this file began, each with its reserved tokens."""
    withdrawals: WithdrawalsInForce | UnsetType = UNSET
    """In force when this file began; no such member where no entry before says."""
    torn: tuple[TornPiece, ...] = ()


Event = Withdrawn | WithdrawalsInForce | PolicyChanged | FindingFiled | FindingReviewed | Operated
"""What happens beside calls."""
Entry = Header | Opening | Closing | Interrupted | Event | Denials | Outage | Checkpoint | Rotation

KINDS: Mapping[str, type[Entry]] = MappingProxyType(
    {
        "header": Header,
        "opening": Opening,
        "closing": Closing,
        "interrupted": Interrupted,
        "withdrawal": Withdrawn,
        "in_force": WithdrawalsInForce,
        "policy": PolicyChanged,
        "finding": FindingFiled,
        "review": FindingReviewed,
        "operation": Operated,
        "denials": Denials,
        "outage": Outage,
        "checkpoint": Checkpoint,
        "rotation": Rotation,
    }
)
"""The name of each kind in the file."""
