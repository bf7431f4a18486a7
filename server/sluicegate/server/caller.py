"""Who calls, how, and until when: what every use case is told about a call."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.auth import Grant, Peer, Principal
from sluicegate.server.observe.tracing import NO_TRACE, CallTrace

if TYPE_CHECKING:
    from sluicegate.server.auditing import CallRecord


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller and its connection."""

    principal: Principal
    peer: Peer


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a caller. Times are `time.monotonic()` seconds."""

    caller: Caller
    request_id: str
    arrived: float
    deadline: float | None  # None: the caller set none
    record: CallRecord
    trace: CallTrace = NO_TRACE

    def deadline_within(self, latest: float) -> float:
        """The caller's deadline, or `latest` where that comes first."""
        return latest if self.deadline is None else min(self.deadline, latest)


def identity_of(caller: Caller, grant: Grant) -> str:
    """Whose share of the engine a call takes: the agreement's, else the client's; callers without a token are one.

    No two identities are spelled alike: names that come from tokens have no line breaks in them.
    """
    if grant.agreement is not None:
        return f"agreement\n{grant.agreement}"
    if caller.principal.anonymous:
        return "anonymous"
    return f"client\n{caller.principal.issuer}\n{caller.principal.client_id}"


def cache_salt_of(caller: Caller, grant: Grant) -> str:
    """Whose prompts a call's prompt may share a cached prefix with: its identity's, and for the public nobody's.

    Callers without a token are one identity, but strangers: how soon a first token comes would tell one what another
    had asked.
    """
    return "" if caller.principal.anonymous else identity_of(caller, grant)


def new_request_id() -> str:
    """Unique, and sorted by time."""
    return uuid7(time.time_ns() // 1_000_000)


def uuid7(milliseconds: int) -> str:
    """A UUID version 7 (RFC 9562, section 5.7) of this time in Unix milliseconds."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
