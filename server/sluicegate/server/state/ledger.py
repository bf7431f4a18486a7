"""The words of the quota ledger: who is counted, what is asked for, and what the answer is.

**How tokens are booked.** A reservation counts, with all that it holds, in every window until it is settled. Each
heartbeat says how many tokens the stream has emitted so far: these move from the reservation to the counters of the
minute and the day in which the heartbeat arrives. Settling moves the last of them and gives back the rest. So in any
window a stream counts for its reservation less what it was known to have emitted before the window began. It cannot
emit more than that there, and a reservation is granted only where the sum of all these fits the limit: in every window,
over every interleaving, tokens emitted ≤ limit. A stream over a border is booked late rather than early, by no more
than one heartbeat's tokens.

**Leases.** A reservation that is not renewed lapses after the lease time. Its place among the concurrent streams
returns; what it still held is booked as emitted at that moment, since nobody knows better. Whoever holds it must emit
nothing after the lease time, counted from before the last successful call was sent.

**Clock.** The store's own, so that replicas agree. For one account it never goes back: a store whose clock was set back
stands still until it has caught up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import quote
from zoneinfo import ZoneInfo

from sluicegate.auth import Reason


class Quota(StrEnum):
    """The quotas that the ledger counts, named as in `Quotas`, in the order in which they are checked.

    `output_tokens_per_call` is not among them: it narrows what the caller asks for.
    """

    CONCURRENT_STREAMS = "concurrent_streams"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    OUTPUT_TOKENS_PER_MINUTE = "output_tokens_per_minute"
    OUTPUT_TOKENS_PER_DAY = "output_tokens_per_day"
    SCORED_TOKENS_PER_DAY = "scored_tokens_per_day"


REASONS = MappingProxyType(
    {
        Quota.CONCURRENT_STREAMS: Reason.CONCURRENCY_LIMIT,
        Quota.REQUESTS_PER_MINUTE: Reason.REQUEST_RATE_LIMIT,
        Quota.OUTPUT_TOKENS_PER_MINUTE: Reason.TOKEN_RATE_LIMIT,
        Quota.OUTPUT_TOKENS_PER_DAY: Reason.DAILY_TOKEN_QUOTA,
        Quota.SCORED_TOKENS_PER_DAY: Reason.DAILY_TOKEN_QUOTA,
    }
)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom quotas are counted for. `zone` says when its days begin."""

    key: str
    zone: ZoneInfo


def account(kind: str, *names: str, zone: ZoneInfo) -> Account:
    """The account of a kind of caller and its names, such as issuer and client. No two lists of names share one."""
    return Account("/".join(quote(name, safe="") for name in (kind, *names)), zone)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call asks for: one request, one place among the concurrent streams, and tokens.

    Of output tokens, anything from `least_output_tokens` to `output_tokens` is granted, for all candidates together;
    scored tokens are granted whole or not at all.
    """

    output_tokens: int = 0
    least_output_tokens: int = 1
    scored_tokens: int = 0

    def __post_init__(self) -> None:
        assert self.scored_tokens >= 0
        assert self.output_tokens == 0 or 1 <= self.least_output_tokens <= self.output_tokens


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was granted; it holds until it is settled, and lapses when it is not renewed in time."""

    id: str
    account: Account
    output_tokens: int
    scored_tokens: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of one quota is used. `resets_in_seconds`: when its window ends; None where there is no window."""

    quota: Quota
    limit: int
    used: int
    """Outstanding reservations included."""
    resets_in_seconds: float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was reserved and no request was counted; `usage` is of the first quota that has no room."""

    usage: Usage

    @property
    def reason(self) -> Reason:
        return REASONS[self.usage.quota]
