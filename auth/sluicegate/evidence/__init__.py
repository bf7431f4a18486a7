"""Evidence files: what evaluations write, and what release gates read. docs/evidence.md has their form."""

from __future__ import annotations

from sluicegate.evidence.bias import BiasEvidence
from sluicegate.evidence.errors import EvidenceError
from sluicegate.evidence.form import Evidence, digest, encode, parse, read
from sluicegate.evidence.memorisation import MemorisationEvidence
from sluicegate.evidence.watermark import WatermarkEvidence

__all__ = [
    "BiasEvidence",
    "Evidence",
    "EvidenceError",
    "MemorisationEvidence",
    "WatermarkEvidence",
    "digest",
    "encode",
    "parse",
    "read",
]
