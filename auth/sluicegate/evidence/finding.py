"""Evidence that a partner reported on a model and the operators accepted it: a citation, without the text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sluicegate.evidence.form import Evidence, Name, Sha256

SCHEMA: Literal["sluicegate/evidence/finding/v1"] = "sluicegate/evidence/finding/v1"

FindingId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class FindingEvidence(Evidence):
    """One finding as it stood when the file was made. `began` is when it was filed, `ended` when it was last reviewed;
    `subject.dtype` is empty: a finding is about weights."""

    schema_: Literal["sluicegate/evidence/finding/v1"] = Field(default=SCHEMA, alias="schema")
    finding: FindingId
    finding_sha256: Sha256
    """Of the finding's canonical form, as FindingService states it."""
    partner: Name
    agreement: Name
    kind: Name
    severity: Name
    review: Literal["accepted", "rejected"]
