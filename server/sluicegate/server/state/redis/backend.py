"""Ledger, withdrawals, anchors, sketches and findings in Redis, each operation one Lua script: one atomic step."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from sluicegate.auth import Quotas
from sluicegate.server.state.errors import FindingUnknown, HistoryLost, StateUnavailable, WithdrawalUnknown
from sluicegate.server.state.findings import WINDOW_MS, Crowded, Filing, time_of
from sluicegate.server.state.ledger import Account, Quota, Refusal, Usage, Wanted
from sluicegate.server.state.redis.connection import Reply, Scripts, connect
from sluicegate.server.state.sketches import KEPT_SECONDS, LARGEST_BYTES, MOST, PAGE_BYTES, Sketch, SketchPage, pages
from sluicegate.server.state.windows import day_of
from sluicegate.server.state.withdrawals import Version

PREFIX = "{sluicegate}:"  # the braces keep all keys in one slot of a Redis cluster, as scripts need it
IDENTITY = f"{PREFIX}identity"
WITHDRAWALS = [IDENTITY, f"{PREFIX}history", f"{PREFIX}withdrawals", f"{PREFIX}expiries"]
ANCHORS = [IDENTITY, f"{PREFIX}anchors"]
SIGNALS = f"{PREFIX}signals"
SKETCHES = [IDENTITY, SIGNALS, f"{PREFIX}sketches", f"{PREFIX}sketch-numbers", f"{PREFIX}sketch-times"]
FINDINGS = f"{PREFIX}findings"
REVIEWS = f"{PREFIX}finding-reviews"
REQUESTS = f"{PREFIX}finding-requests"
DAY_TRIES = 3

_MINUTE_QUOTAS = (Quota.REQUESTS_PER_MINUTE, Quota.OUTPUT_TOKENS_PER_MINUTE)


class RedisBackend:
    """A Backend. Made by `open`; event loop only. A given clock replaces the server's, in Unix seconds."""

    def __init__(self, scripts: Scripts, identity: str, lease_ms: int, clock: Callable[[], float] | None) -> None:
        self._scripts = scripts
        self._identity = identity
        self._lease_ms = lease_ms
        self._clock = clock
        self._time_ms = 0
        """The last time heard of the server; it tells the days of accounts until the server says otherwise."""

    @classmethod
    async def open(cls, url: str, lease_ms: int, clock: Callable[[], float] | None) -> RedisBackend:
        """Connect, check that the server keeps what it is told, and learn the store's identity.

        Raises StoreUnsuitable or StateUnavailable.
        """
        scripts, identity = await connect(url, IDENTITY)
        return cls(scripts, identity, lease_ms, clock)

    async def reserve(self, id_: str, account: Account, quotas: Quotas, wanted: Wanted) -> int | Refusal:
        least = wanted.least_output_tokens if wanted.output_tokens else 0
        limits = [_or_empty(getattr(quotas, quota)) for quota in Quota]
        reply = await self._book("reserve", account, id_, wanted.output_tokens, least, wanted.scored_tokens, *limits)
        if reply[0] == "granted":
            return int(reply[1])
        number, used, time_ms, minute_end_ms, day_end_ms = map(int, reply[1:])
        quota = list(Quota)[number - 1]
        return Refusal(Usage(quota, getattr(quotas, quota), used, _resets(quota, time_ms, minute_end_ms, day_end_ms)))

    async def renew(self, account: Account, emitted: Mapping[str, int]) -> frozenset[str]:
        pairs = [value for pair in emitted.items() for value in pair]
        reply = await self._book("renew", account, *pairs)
        return frozenset(map(str, reply[1:]))

    async def settle(self, account: Account, id_: str, emitted: int, scored: int) -> None:
        await self._book("settle", account, id_, emitted, scored)

    async def usage(self, account: Account, quotas: Quotas) -> tuple[Usage, ...]:
        time_ms, minute_end_ms, day_end_ms, *used = map(int, (await self._book("usage", account))[1:])
        return tuple(
            Usage(quota, limit, amount, _resets(quota, time_ms, minute_end_ms, day_end_ms))
            for quota, amount in zip(Quota, used, strict=True)
            if (limit := getattr(quotas, quota)) is not None
        )

    async def withdraw(self, id_: str, entry: str, expires_at: int | None) -> int:
        now = "" if self._clock is None else int(self._clock())
        reply = await self._run("withdraw", WITHDRAWALS, now, id_, entry, _or_empty(expires_at))
        return int(reply[1])

    async def lift(self, id_: str, mark: str) -> int:
        reply = await self._run("lift", WITHDRAWALS, id_, mark)
        if reply[0] == "unknown":
            raise WithdrawalUnknown(id_)
        return int(reply[1])

    async def read(self, seen: Version | None) -> tuple[Version, list[str] | None]:
        if seen is not None and seen.store != self._identity:
            raise HistoryLost("this Redis is not the store that was read before")
        reply = await self._run("read", WITHDRAWALS, *(("", "") if seen is None else (seen.epoch, seen.mark)))
        if seen is not None and reply[0] == "same":
            return seen, None
        return Version(self._identity, int(reply[1]), str(reply[2])), list(map(str, reply[3:]))

    async def anchor(self, replica: str, log: str, head: str) -> bool:
        return (await self._run("anchor", ANCHORS, replica, log, head))[0] == "kept"

    async def anchors(self) -> dict[str, str]:
        pairs = list(map(str, (await self._run("anchors", ANCHORS))[1:]))
        return dict(zip(pairs[::2], pairs[1::2], strict=True))

    async def salt(self, new: bytes) -> bytes:
        reply = await self._run("salt", [IDENTITY, SIGNALS], new.hex())
        try:
            return bytes.fromhex(str(reply[1]))
        except ValueError:
            raise StateUnavailable("redis: the salt of the signals is none of ours") from None

    async def put_sketches(self, source: str, sketches: Mapping[str, bytes]) -> None:
        now = "" if self._clock is None else int(self._clock())
        for page in pages(sketches):
            flat = [text for partner, data in page.items() for text in (partner, base64.b64encode(data).decode())]
            await self._run("put_sketches", SKETCHES, now, KEPT_SECONDS, MOST, source, *flat)

    async def sketches(self, source: str, after: int) -> SketchPage:
        reply = await self._run(
            "sketches", SKETCHES, source, after, _base64_size(LARGEST_BYTES), _base64_size(PAGE_BYTES)
        )
        texts = list(map(str, reply[2:]))
        found = []
        for field, text in zip(texts[::2], texts[1::2], strict=True):
            origin, _, partner = field.partition(" ")
            found.append(Sketch(origin, partner, _unpacked(text)))
        return SketchPage(tuple(found), int(reply[1]))

    async def file_finding(self, filing: Filing) -> str | Crowded:
        bounded = [bound.list for bound in filing.bounds]
        lists = [*bounded, *(each for each in filing.lists if each not in bounded)]
        reply = await self._run(
            "file_finding",
            [IDENTITY, FINDINGS, REQUESTS, *map(_list_key, lists)],
            filing.id,
            filing.entry,
            filing.request,
            filing.since,
            *(bound.most for bound in filing.bounds),
        )
        if reply[0] == "crowded":
            return Crowded(filing.bounds[int(reply[1]) - 1], time_of(str(reply[2])) + WINDOW_MS)
        return str(reply[1])

    async def finding(self, id_: str) -> tuple[str, str] | None:
        reply = await self._run("finding", [IDENTITY, FINDINGS, REVIEWS], id_)
        return None if reply[0] == "unknown" else (str(reply[1]), str(reply[2]))

    async def findings(self, list_: str, before: str, most: int) -> list[tuple[str, str]]:
        reply = await self._run("findings", [IDENTITY, FINDINGS, REVIEWS, _list_key(list_)], before, most)
        texts = list(map(str, reply[1:]))
        return list(zip(texts[::2], texts[1::2], strict=True))

    async def review_finding(self, id_: str, review: str) -> None:
        if (await self._run("review_finding", [IDENTITY, FINDINGS, REVIEWS], id_, review))[0] == "unknown":
            raise FindingUnknown(id_)

    async def close(self) -> None:
        await self._scripts.close()

    async def _book(self, script: str, account: Account, *arguments: str | int) -> Reply:
        """Run a ledger script with the bounds of the account's day, which only the server's time can tell."""
        keys = [IDENTITY, *(f"{PREFIX}{part}:{account.key}" for part in ("account", "leases", "lease-expiries"))]
        now = "" if self._clock is None else int(self._clock() * 1000)
        for _ in range(DAY_TRIES):
            day = day_of(self._time_ms, account.zone)
            reply = await self._run(script, keys, now, day.start_ms, day.end_ms, self._lease_ms, *arguments)
            if reply[0] != "other day":
                return reply
            self._time_ms = int(reply[1])
        raise StateUnavailable("the clock of Redis moves by days between two calls")

    async def _run(self, script: str, keys: list[str], *arguments: str | int) -> Reply:
        reply = await self._scripts.run(script, keys, [self._identity, *arguments])
        if reply[0] == "lost":
            raise HistoryLost("this Redis has forgotten what it was told; was it emptied, or restored from a copy?")
        return reply


def _list_key(list_: str) -> str:
    return f"{PREFIX}finding-list:{list_}"


def _base64_size(size: int) -> int:
    return 4 * ((size + 2) // 3)


def _unpacked(text: str) -> bytes:
    """The bytes of base64. What is none was put by somebody else, and is given as it is: its reader will refuse it."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def _or_empty(number: int | None) -> str | int:
    return "" if number is None else number


def _resets(quota: Quota, time_ms: int, minute_end_ms: int, day_end_ms: int) -> float | None:
    if quota is Quota.CONCURRENT_STREAMS:
        return None
    return ((minute_end_ms if quota in _MINUTE_QUOTAS else day_end_ms) - time_ms) / 1000
