"""One account's books: the rules of ledger.py as plain arithmetic. redis/books.lua holds the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sluicegate.auth import Quotas
from sluicegate.server.state.ledger import Quota, Refusal, Usage, Wanted
from sluicegate.server.state.windows import Window, minute_of

OUTPUT_QUOTAS = (Quota.OUTPUT_TOKENS_PER_MINUTE, Quota.OUTPUT_TOKENS_PER_DAY)


@dataclass(frozen=True, slots=True)
class Lease:
    """What one reservation still holds, until when, and what it was known to have emitted before."""

    expires_ms: int
    output_tokens: int
    scored_tokens: int
    emitted: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What reservations hold together."""

    count: int = 0
    output_tokens: int = 0
    scored_tokens: int = 0


@dataclass(slots=True)
class Books:
    """Counters of the running minute and day, and the outstanding reservations.

    `turn` comes first; the other methods mean the moment that it was given. `leases` are those that are about to be
    looked at one by one, by id: all that have lapsed, and those that will be named. Of the `others` the sums will do.
    """

    time_ms: int = 0
    minute_end_ms: int = 0
    requests: int = 0
    minute_output: int = 0
    day_end_ms: int = 0
    day_output: int = 0
    day_scored: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)
    others: Held = Held()

    def turn(self, now_ms: int, day: Window) -> None:
        """Open the windows of `now_ms`, which never goes back, and book what has lapsed.

        A day that overlaps the one before it, because the account's time zone changed, takes its counts along.
        """
        self.time_ms = now_ms
        minute = minute_of(now_ms)
        if minute.end_ms != self.minute_end_ms:
            self.minute_end_ms, self.requests, self.minute_output = minute.end_ms, 0, 0
        if day.start_ms >= self.day_end_ms:
            self.day_output = self.day_scored = 0
        self.day_end_ms = day.end_ms
        for id_, lease in [entry for entry in self.leases.items() if entry[1].expires_ms <= now_ms]:
            if lease.expires_ms >= minute.start_ms:
                self.minute_output += lease.output_tokens
            if lease.expires_ms >= day.start_ms:
                self.day_output += lease.output_tokens
                self.day_scored += lease.scored_tokens
            del self.leases[id_]

    def reserve(self, id_: str, quotas: Quotas, wanted: Wanted, lease_ms: int) -> int | Refusal:
        """The output tokens granted under a new lease, or the first quota without room."""
        least = wanted.least_output_tokens if wanted.output_tokens else 0
        asked = {
            Quota.CONCURRENT_STREAMS: 1,
            Quota.REQUESTS_PER_MINUTE: 1,
            Quota.OUTPUT_TOKENS_PER_MINUTE: least,
            Quota.OUTPUT_TOKENS_PER_DAY: least,
            Quota.SCORED_TOKENS_PER_DAY: wanted.scored_tokens,
        }
        usage = {entry.quota: entry for entry in self.usage(quotas)}
        for quota, amount in asked.items():
            if amount and quota in usage and usage[quota].used + amount > usage[quota].limit:
                return Refusal(usage[quota])
        limited = [
            usage[quota] for quota in (Quota.OUTPUT_TOKENS_PER_MINUTE, Quota.OUTPUT_TOKENS_PER_DAY) if quota in usage
        ]
        granted = min([wanted.output_tokens, *(entry.limit - entry.used for entry in limited)]) if least else 0
        self.requests += 1
        self.leases[id_] = Lease(self.time_ms + lease_ms, granted, wanted.scored_tokens)
        return granted

    def renew(self, emitted: Mapping[str, int], lease_ms: int) -> frozenset[str]:
        """Book each reservation's progress and extend its lease; the ids of those that have lapsed."""
        for id_ in emitted.keys() & self.leases.keys():
            self._book(id_, emitted[id_])
            self.leases[id_] = replace(self.leases[id_], expires_ms=self.time_ms + lease_ms)
        return frozenset(emitted.keys() - self.leases.keys())

    def settle(self, id_: str, emitted: int, scored: int) -> None:
        """Book what a reservation came to and give back the rest; nothing, if it was settled or has lapsed."""
        if id_ in self.leases:
            self._book(id_, emitted)
            self.day_scored += scored
            del self.leases[id_]

    def usage(self, quotas: Quotas) -> tuple[Usage, ...]:
        """Each quota that has a limit."""
        held_output = self.others.output_tokens + sum(lease.output_tokens for lease in self.leases.values())
        held_scored = self.others.scored_tokens + sum(lease.scored_tokens for lease in self.leases.values())
        minute, day = (self.minute_end_ms - self.time_ms) / 1000, (self.day_end_ms - self.time_ms) / 1000
        found = {
            Quota.CONCURRENT_STREAMS: (self.others.count + len(self.leases), None),
            Quota.REQUESTS_PER_MINUTE: (self.requests, minute),
            Quota.OUTPUT_TOKENS_PER_MINUTE: (self.minute_output + held_output, minute),
            Quota.OUTPUT_TOKENS_PER_DAY: (self.day_output + held_output, day),
            Quota.SCORED_TOKENS_PER_DAY: (self.day_scored + held_scored, day),
        }
        return tuple(
            Usage(quota, limit, used, resets)
            for quota, (used, resets) in found.items()
            if (limit := getattr(quotas, quota)) is not None
        )

    def _book(self, id_: str, emitted: int) -> None:
        lease = self.leases[id_]
        new = max(0, emitted - lease.emitted)
        self.minute_output += new
        self.day_output += new
        self.leases[id_] = replace(lease, output_tokens=max(0, lease.output_tokens - new), emitted=lease.emitted + new)
