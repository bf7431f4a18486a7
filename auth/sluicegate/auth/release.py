"""The release plan, `release.yaml`: models, stages, and which stage is active."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from sluicegate.auth.fields import (
    Listing,
    ModelId,
    Name,
    Names,
    PartnerName,
    Sha256,
    Slug,
    Table,
    Terms,
    Text,
    Timestamp,
    matching,
)
from sluicegate.auth.gates import Gate
from sluicegate.auth.grant import Quotas, WatermarkTerm
from sluicegate.auth.principal import Audience

API_VERSION = "sluicegate/release/v1"


def _audience(value: object) -> Audience:
    for audience in Audience:
        if value == audience.value:
            return audience
    raise ValueError("write public, partner or internal; a model that is open to nobody is left out")


OpenTo = Annotated[Audience, PlainValidator(_audience)]

_SOURCE = r"\.{0,2}/[^\x00-\x1f\x7f]+|[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*(?:@[A-Za-z0-9_./-]+)?"
Source = Annotated[
    str, matching(_SOURCE, "write a directory that begins with `/`, `./` or `../`, or a hub id as owner/name@revision")
]


class ModelEntry(Terms):
    """What is known of one model: where its weights are, and what its card says."""

    parameters: Annotated[int, Field(ge=1)]
    source: Source
    """A directory, beginning with `/`, `./` or `../` (the latter two from the policy directory), or a hub id
    as `openai-community/gpt2`, at a branch, tag or commit as `openai-community/gpt2@607a30d`."""
    license: Name
    weights_sha256: Sha256 | None = None
    """Of `model.safetensors`; None where it is not pinned."""
    description: Text | None = None
    intended_use: Text | None = None
    unacceptable_use: Text | None = None
    context_length: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    vocabulary_size: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    watermark: WatermarkTerm = "none"
    """Of what the public is served; a partner's agreement says it for the partner, and internal callers get none."""


class Requirement(Terms):
    """What must be on record before the stage: a gate that a model passed, or a partner's finding about it."""

    model: ModelId
    gate: Slug | None = None
    finding: PartnerName | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Requirement:
        if (self.gate is None) == (self.finding is None):
            raise ValueError("name either a `gate` or, by its partner, a `finding`")
        return self

    @property
    def name(self) -> str:
        """The gate's id, or `finding:` and the partner: no two of one model are alike."""
        return self.gate if self.gate is not None else f"finding:{self.finding}"


class Stage(Terms):
    """One row of the release plan. A model that `open` does not name is open to nobody."""

    id: Slug
    name: Name
    open: Table[OpenTo]
    requires: Listing[Requirement] = ()

    def opens_wider_than(self, other: Stage) -> bool:
        """Whether anybody could reach a model here who cannot in `other`."""
        return any(model not in other.open or audience < other.open[model] for model, audience in self.open.items())


class Client(Terms):
    """A client of an issuer; client names mean nothing without their issuer."""

    issuer: Name
    client: Name


class Signature(Terms):
    """One signer's Ed25519 signature over a canonical payload (see signatures.py), base64url."""

    signer: Slug
    value: Name


class InternalClient(Client):
    """A client of the operator's own, with the signature that admits it."""

    signature: Signature | None = None


class InternalTerms(Terms):
    clients: Listing[InternalClient] = ()


class PublicTerms(Terms):
    """What everybody may have, and whether that includes callers without a token."""

    anonymous: Literal["refuse", "serve"] = "refuse"
    quotas: Quotas
    anonymous_quotas: Quotas | None = None
    """Of one anonymous caller, below those of `quotas`; needed where anonymous callers are served."""

    @model_validator(mode="after")
    def _anonymous_is_limited(self) -> PublicTerms:
        if self.anonymous == "serve" and self.anonymous_quotas is None:
            raise ValueError("`anonymous: serve` needs `anonymous_quotas`")
        return self


class StateLossTerms(Terms):
    """What happens to calls while the shared state cannot be read."""

    public: Literal["serve", "refuse"] = "refuse"
    partner: Literal["serve", "refuse"] = "refuse"
    """Of partners and of internal callers."""

    def serves(self, audience: Audience) -> bool:
        return (self.public if audience is Audience.PUBLIC else self.partner) == "serve"


class AuditLossTerms(Terms):
    """What happens to calls while the audit log cannot be written. Partners and internal callers are refused."""

    public: Literal["serve", "refuse"] = "refuse"

    def serves(self, audience: Audience) -> bool:
        return audience is Audience.PUBLIC and self.public == "serve"


class Transition(Terms):
    """One recorded step from stage to stage. `signatures` belong to `by`, one each, in order."""

    from_: Slug = Field(alias="from")
    to: Slug
    at: Timestamp
    by: Names = ()
    evidence_sha256: Listing[Sha256] = ()
    plan_sha256: Sha256 | None = None
    """Digest of the plan that the signers saw; needed where signatures are checked."""
    signatures: Names = ()


class ReleasePlan(Terms):
    """The whole of `release.yaml`."""

    api_version: Literal["sluicegate/release/v1"] = Field(alias="apiVersion")
    models: Table[ModelEntry] = Field(min_length=1)
    gates: Annotated[Mapping[Slug, Gate], AfterValidator(MappingProxyType)] = Field(default_factory=dict)
    stages: Annotated[Listing[Stage], Field(min_length=1)]
    active: Slug
    internal: InternalTerms = InternalTerms()
    public: PublicTerms
    on_state_lost: StateLossTerms = StateLossTerms()
    on_audit_lost: AuditLossTerms = AuditLossTerms()
    transitions: Listing[Transition] = ()

    @property
    def stages_by_id(self) -> Mapping[str, Stage]:
        return {stage.id: stage for stage in self.stages}
