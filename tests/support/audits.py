"""The server's side of an audit log that keeps nothing, for tests of other things."""

from __future__ import annotations

from sluicegate.auth import Policy
from sluicegate.server.audit import Pseudonyms
from sluicegate.server.auditing import Auditing, NoLog
from sluicegate.server.caller import Call, Caller

SECRET = bytes(32)


def no_audit(policy: Policy) -> Auditing:
    return Auditing(NoLog(), Pseudonyms(SECRET), lambda: policy, signatures_checked=False, denials_per_minute=1_000_000)


def call_of(caller: Caller, policy: Policy, deadline: float | None = None, *, request_id: str = "request-1") -> Call:
    """A call that nobody made, of this caller."""
    record = no_audit(policy).record(caller, request_id, "Generate", 0.0)
    return Call(caller, request_id, 0.0, deadline, record)
