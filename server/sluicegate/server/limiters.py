"""Rows 1 and 10: how often a network may call, and how often a client may be refused, before it has to wait.

Both are kept in this process, replica by replica: they protect it, and promise nothing to anybody. The library
`limits` was looked at for this: its memory storage has no bound on the number of keys, sweeps all of them in a thread
every 10 ms, and reads the real clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from sluicegate.auth import Reason
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused

WINDOW_SECONDS = 60.0
ROUNDING_SECONDS = 1e-6  # what a minute's sum of floats may be off by
MOST_REMEMBERED = 65_536  # as many as an IPv6 site (/48) has networks (/64)
DENIALS = frozenset(
    {
        Reason.REQUEST_INVALID,
        Reason.SCOPE_MISSING,
        Reason.MODEL_NOT_RELEASED,
        Reason.MODEL_WITHDRAWN,
        Reason.AGREEMENT_REQUIRED,
        Reason.AGREEMENT_UNKNOWN,
        Reason.AGREEMENT_NOT_ACTIVE,
        Reason.AGREEMENT_EXPIRED,
        Reason.AGREEMENT_WITHDRAWN,
        Reason.AGREEMENT_CLIENT_MISMATCH,
        Reason.PURPOSE_NOT_PERMITTED,
        Reason.ACTION_NOT_PERMITTED,
        Reason.NETWORK_NOT_PERMITTED,
        Reason.OUTSIDE_HOURS,
        Reason.TOKEN_LIFETIME_EXCESSIVE,
        Reason.TOKEN_BINDING_REQUIRED,
        Reason.STEP_UP_REQUIRED,
        Reason.OUTPUT_TERMS_CONFLICT,
    }
)
"""Reasons of rows 11 to 16."""

Address = IPv4Address | IPv6Address | None
Clock = Callable[[], float]


class Budgets:
    """A budget for each key: `per_minute` at once, and it refills evenly in a minute.

    The generic cell rate algorithm (ITU-T I.371, virtual scheduling): one number a key, the time at which its budget
    is full again. Any clock will do; one that is set back fills budgets once, and locks nobody out.

    At most `most` keys are remembered. Beyond that the one that spent longest ago gets a full budget: to refuse new
    keys instead would let somebody with many addresses lock everybody else out.
    """

    def __init__(self, per_minute: int, clock: Clock, *, most: int = MOST_REMEMBERED) -> None:
        self._interval = WINDOW_SECONDS / per_minute
        self._clock = clock
        self._began = clock()  # small times have small rounding errors
        self._most = most
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()  # the one that spent last stands last

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_seconds(self, key: Hashable) -> float:
        """How long until the key can spend; 0 if it can now."""
        now = self._clock() - self._began
        wait = self._full_at_of(key, now) - now - (WINDOW_SECONDS - self._interval)
        return wait if wait > ROUNDING_SECONDS else 0.0

    def spend(self, key: Hashable) -> None:
        """Spend one. A budget that is empty stays empty for no longer."""
        now = self._clock() - self._began
        self._full_at[key] = min(self._full_at_of(key, now) + self._interval, now + WINDOW_SECONDS)
        self._full_at.move_to_end(key)
        while len(self._full_at) > self._most or next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)

    def _full_at_of(self, key: Hashable, now: float) -> float:
        full_at = self._full_at.get(key, now)
        return full_at if now <= full_at <= now + WINDOW_SECONDS else now


@dataclass(frozen=True, slots=True)
class Networks:
    """How many leading bits of an address make a network that counts as one caller."""

    ipv4_prefix: int
    ipv6_prefix: int

    def of(self, address: IPv4Address | IPv6Address) -> tuple[int, int]:
        """The address's network: its IP version and the leading bits."""
        prefix = self.ipv4_prefix if address.version == 4 else self.ipv6_prefix
        return address.version, int(address) >> (address.max_prefixlen - prefix)


class PeerLimiter:
    """Row 1. Event loop only."""

    def __init__(self, calls_per_minute: int, networks: Networks, clock: Clock) -> None:
        self._budgets = Budgets(calls_per_minute, clock)
        self._networks = networks

    def admit(self, address: Address) -> None:
        """Count a call. Raises CallRefused if its network has made too many; those refused do not count.

        A call without an address comes over a socket of this machine's, whose permissions say who may call.
        """
        if address is None:
            return
        network = self._networks.of(address)
        if wait := self._budgets.wait_seconds(network):
            raise CallRefused(Reason.PEER_RATE_LIMIT, retry_after_seconds=wait)
        self._budgets.spend(network)


class DenialLimiter:
    """Row 10. Event loop only.

    Callers without a token are told apart by network, so that one of them cannot lock out the others.
    """

    def __init__(self, denials_per_minute: int, networks: Networks, clock: Clock) -> None:
        self._budgets = Budgets(denials_per_minute, clock)
        self._networks = networks

    def admit(self, caller: Caller) -> None:
        """Raises CallRefused if the client was refused too often."""
        if wait := self._budgets.wait_seconds(self._key(caller)):
            raise CallRefused(Reason.DENIAL_RATE_LIMIT, retry_after_seconds=wait)

    def count(self, caller: Caller, reason: Reason) -> None:
        """Count a refusal, if it is one of DENIALS."""
        if reason in DENIALS:
            self._budgets.spend(self._key(caller))

    def _key(self, caller: Caller) -> Hashable:
        if not caller.principal.anonymous:
            return caller.principal.issuer, caller.principal.client_id
        return None if caller.peer.address is None else self._networks.of(caller.peer.address)


@dataclass(frozen=True, slots=True)
class Limiters:
    """Both of them."""

    peers: PeerLimiter
    denials: DenialLimiter
