"""The audit log: what was decided and delivered, in a form that cannot be changed unseen. See docs/audit.md."""

from sluicegate.server.audit.chain import Head, parse_head
from sluicegate.server.audit.entries import (
    OTHER,
    Closing,
    Decision,
    Event,
    FindingFiled,
    FindingReviewed,
    Opening,
    Operated,
    PolicyChanged,
    WithdrawalsInForce,
    Withdrawn,
)
from sluicegate.server.audit.errors import (
    AuditError,
    AuditLogDamaged,
    AuditLogInUse,
    AuditSetupError,
    AuditUnavailable,
    Cause,
)
from sluicegate.server.audit.journal import Clock, Identity
from sluicegate.server.audit.keys import read_key
from sluicegate.server.audit.log import AuditLog, Hooks, open_audit_log
from sluicegate.server.audit.pseudonyms import Pseudonyms, create_secret, read_secret
from sluicegate.server.audit.replaying import OwnCalls
from sluicegate.server.audit.replicas import Verification
from sluicegate.server.audit.witness import has_forgotten, in_force
from sluicegate.server.audit.writer import Limits

__all__ = [
    "OTHER",
    "AuditError",
    "AuditLog",
    "AuditLogDamaged",
    "AuditLogInUse",
    "AuditSetupError",
    "AuditUnavailable",
    "Cause",
    "Clock",
    "Closing",
    "Decision",
    "Event",
    "FindingFiled",
    "FindingReviewed",
    "Head",
    "Hooks",
    "Identity",
    "Limits",
    "Opening",
    "Operated",
    "OwnCalls",
    "PolicyChanged",
    "Pseudonyms",
    "Verification",
    "WithdrawalsInForce",
    "Withdrawn",
    "create_secret",
    "has_forgotten",
    "in_force",
    "open_audit_log",
    "parse_head",
    "read_key",
    "read_secret",
]
