"""What calls about the release plan answer with: plain frozen data, free of wire messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from sluicegate.client.results import Audience


@unique
class DifferenceEffect(StrEnum):
    """What a difference of two policies does for callers."""

    UNSPECIFIED = "UNSPECIFIED"
    """An effect that this version of the client does not know."""
    OPENS = "OPENS"
    """Somebody may do something, or more of it, that nobody in that place could before."""
    CLOSES = "CLOSES"
    CHANGES = "CHANGES"
    """Other than before, and not for sure narrower."""
    RECORDS = "RECORDS"
    """Nothing: it is written down only, or not in force."""


@unique
class DifferenceSigning(StrEnum):
    """Whose signatures a difference needs, where signatures are checked."""

    UNSPECIFIED = "UNSPECIFIED"
    """A need that this version of the client does not know."""
    NONE = "NONE"
    TRANSITION = "TRANSITION"
    """As many signers as the server's settings say, over a transition."""
    ONE = "ONE"
    """One signer, over the agreement or the internal client."""


@unique
class AccessShift(StrEnum):
    """What becomes of a caller or a call."""

    UNSPECIFIED = "UNSPECIFIED"
    """A shift that this version of the client does not know."""
    GAINED = "GAINED"
    LOST = "LOST"
    CHANGED = "CHANGED"
    """Would still be served, under other terms."""


@unique
class CallerKind(StrEnum):
    """Whom a change is about."""

    UNSPECIFIED = "UNSPECIFIED"
    """A kind that this version of the client does not know."""
    CLIENT = "CLIENT"
    PUBLIC = "PUBLIC"
    """Everybody else with a token."""
    ANONYMOUS = "ANONYMOUS"


@unique
class ReplayState(StrEnum):
    """Whether calls on record were decided under both policies."""

    UNSPECIFIED = "UNSPECIFIED"
    """A state that this version of the client does not know."""
    NO_RECORDS = "NO_RECORDS"
    """The policies alone were compared: the server has no calls on record."""
    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    """A part of the calls on record."""


@unique
class RequirementState(StrEnum):
    """How a requirement stands."""

    UNSPECIFIED = "UNSPECIFIED"
    """Not known now, or a state that this version of the client does not know."""
    MET = "MET"
    FAILED = "FAILED"
    """The newest evidence does not pass, or the finding was rejected."""
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class StageRequirement:
    """What must be on record before a stage: a gate, or a finding by a partner; the other is None."""

    model: str
    gate: str | None
    finding: str | None
    state: RequirementState
    explanation: str
    """What is wrong or missing; empty where it is met."""
    evidence_sha256: str
    """Of the evidence file that decided; empty: a finding did, or nothing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the release plan. A model that `open` leaves out is open to nobody."""

    id: str
    name: str
    open: Mapping[str, Audience]
    requires: tuple[StageRequirement, ...]


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """The stages, and what is in force."""

    policy_revision: str
    stages: tuple[Stage, ...]
    active_stage: str
    """As the policy says."""
    stage_in_force: Stage
    """What calls are judged by: the active stage, narrowed where operators went back to an earlier one."""
    withdrawn_models: tuple[str, ...]
    """Closed to everybody, whatever a stage opens."""
    signatures_checked: bool
    severely_reported_models: tuple[str, ...]
    """Open ones against whose weights an accepted finding of high or critical severity stands."""


@dataclass(frozen=True, slots=True)
class StageTransition:
    """One recorded step from stage to stage."""

    sequence: int
    from_stage: str
    to_stage: str
    time: datetime | None
    authors: tuple[str, ...]
    evidence_sha256: tuple[str, ...]
    plan_sha256: str
    """Empty: not recorded."""
    needs_signatures: bool
    valid_signatures: int | None
    """Different signers whose signature holds; None: the server checks none."""


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """One thing that is not the same in both policies; None: not there."""

    subject: str
    field: str
    """Dotted path in the subject; empty for the subject as a whole."""
    before: str | None
    after: str | None
    effect: DifferenceEffect
    signing: DifferenceSigning


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What one caller gains or loses with one model."""

    shift: AccessShift
    caller: CallerKind
    issuer: str
    """As `client_id`: empty unless the caller is a client."""
    client_id: str
    model: str
    action: str
    partner: str
    """As whom it is served, after where it gains, before where it loses."""
    agreement: str | None
    reason: str | None
    """Of the refusal, before where it gains, after where it loses."""


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Something that a reload would refuse."""

    file: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class ReplayGroup:
    """Calls on record that are counted together."""

    shift: AccessShift
    partner: str
    client: str
    model: str
    action: str
    reason: str
    """Of the refusal; for CHANGED the terms that differ."""
    calls: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What would have become of calls on record."""

    calls: int
    gained: int
    lost: int
    changed: int
    served: int
    refused: int
    groups: tuple[ReplayGroup, ...]
    """Those that gain, lose or change, the largest first."""
    groups_left_out: int
    undecidable: int
    """Calls, not among `calls`, whose records tell too little to decide them again."""


@dataclass(frozen=True, slots=True)
class PolicySimulation:
    """What a proposed policy would change. `…_left_out`: how many more there are than are shown."""

    policy_revision: str
    proposed_revision: str
    opens_wider: bool
    differences: tuple[PolicyDifference, ...]
    """As the policies are written, before withdrawals."""
    differences_left_out: int
    access_changes: tuple[AccessChange, ...]
    """Withdrawals counted."""
    access_changes_left_out: int
    signatures_checked: bool
    signature_problems: tuple[PolicyProblem, ...]
    """What a reload would still refuse it for."""
    replay_state: ReplayState
    replay: Replay | None

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody would notice, and nobody who reads the policy either."""
        noticed = self.replay is not None and (self.replay.gained or self.replay.lost or self.replay.changed)
        return not (self.differences or self.access_changes or noticed)
