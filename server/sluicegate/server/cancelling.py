"""The use case of callers who end a call of their own without holding it: from another connection, or process."""

from __future__ import annotations

from sluicegate.auth import Principal, Reason
from sluicegate.server.errors import CallRefused
from sluicegate.server.live import LiveCalls


class Cancelling:
    """Knows the calls of this replica alone. One for the process; event loop only."""

    def __init__(self, live: LiveCalls) -> None:
        self._live = live

    def cancel(self, principal: Principal, request_id: str) -> None:
        """End the call wherever it waits.

        Raises CallRefused (REQUEST_UNKNOWN) for one that is not under way and for one of others alike. Callers without
        a token are strangers to each other, so none of them owns a call.
        """
        call = self._live.find(request_id)
        if call is None or principal.anonymous or _owner(call.call.caller.principal) != _owner(principal):
            raise CallRefused(Reason.REQUEST_UNKNOWN)
        call.end(CallRefused(Reason.CANCELLED_BY_CALLER))


def _owner(principal: Principal) -> tuple[str, str, str]:
    return principal.issuer, principal.client_id, principal.subject
