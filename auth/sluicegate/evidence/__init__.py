"""Evidence files: what evaluations write, and what release gates read. docs/evidence.md has their form."""

from __future__ import annotations

from sluicegate.evidence.bias import BiasEvidence
from sluicegate.evidence.collection import (
    NO_EVIDENCE,
    EvidenceDirectory,
    EvidenceSet,
    Filed,
    parse_any,
    read_directory,
)
from sluicegate.evidence.errors import EvidenceError
from sluicegate.evidence.finding import FindingEvidence
from sluicegate.evidence.form import Evidence, digest, encode, parse, read
from sluicegate.evidence.memorisation import MemorisationEvidence
from sluicegate.evidence.watermark import WatermarkEvidence

__all__ = [
    "NO_EVIDENCE",
    "BiasEvidence",
    "Evidence",
    "EvidenceDirectory",
    "EvidenceError",
    "EvidenceSet",
    "Filed",
    "FindingEvidence",
    "MemorisationEvidence",
    "WatermarkEvidence",
    "digest",
    "encode",
    "parse",
    "parse_any",
    "read",
    "read_directory",
]
