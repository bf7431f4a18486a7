"""From a call's metadata and connection to its caller: rows 2 to 8."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from sluicegate.auth import (
    AuthenticationError,
    Policy,
    TokenVerifier,
    anonymous,
    bearer,
    required_scope,
)
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.rpc.peer import Peers

Context = grpc.aio.ServicerContext[object, object]


class Authenticator:
    """Event loop only; never does I/O."""

    def __init__(self, verifier: TokenVerifier, peers: Peers, policy: Callable[[], Policy]) -> None:
        self._verifier = verifier
        self.peers = peers
        self._policy = policy

    def identify(self, context: Context) -> Caller:
        """The caller. Raises CallRefused with the first of rows 2 to 9 that fails."""
        return self._identify(context, serves_anonymous=self._policy().serves_anonymous)

    def check_scope(self, caller: Caller, template: str) -> None:
        """Row 12 for a method that is about no model; for the others the scope is the policy's to decide.

        Raises CallRefused.
        """
        if "{model}" not in template:
            denied = self._policy().check_scope(caller.principal, required_scope(template, None))
            if denied is not None:
                raise CallRefused(denied.reason, denied.detail)

    def identify_if_any(self, context: Context) -> Caller:
        """The same for the methods that need no token: without one, the anonymous caller."""
        return self._identify(context, serves_anonymous=True)

    def _identify(self, context: Context, *, serves_anonymous: bool) -> Caller:
        values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        peer = self.peers.of(context)
        if not values and serves_anonymous:
            return Caller(anonymous(), peer)
        try:
            principal = self._verifier.verify(bearer(values), peer)
        except AuthenticationError as error:
            raise CallRefused(error.reason, error.detail) from None
        if (denied := self._policy().check_caller(principal)) is not None:
            raise CallRefused(denied.reason, denied.detail)
        return Caller(principal, peer)
