"""The call in progress, as the interceptors know it and the servicers read it."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc

from sluicegate.auth import Reason
from sluicegate.server.auditing import CallRecord
from sluicegate.server.caller import Call, Caller, new_request_id
from sluicegate.server.errors import CallRefused
from sluicegate.server.observe.tracing import NO_TRACE, CallTrace
from sluicegate.server.output import Usage


@dataclass(slots=True)
class RpcCall:
    """What is known of one RPC while it runs.

    `caller` and `record` are set by Authentication; by servicers `usage`, `has_answered` where answers go on without
    usage, and `denied` where the answer is that a call would be.
    """

    service: str
    method: str
    request_id: str = field(default_factory=new_request_id)
    arrived: float = field(default_factory=time.monotonic)
    caller: Caller | None = None
    record: CallRecord | None = None
    usage: Usage | None = None
    has_answered: bool = False
    denied: Reason | None = None
    trace: CallTrace = NO_TRACE

    @property
    def has_begun(self) -> bool:
        """Whether it was served so far: what ends it then refuses nothing."""
        return self.usage is not None or self.has_answered


_current: ContextVar[RpcCall] = ContextVar("rpc_call")


def begin(call: RpcCall) -> None:
    """Make this the running task's call; each RPC has a task, hence a context, of its own."""
    _current.set(call)


def current() -> RpcCall:
    """The running task's call."""
    return _current.get()


def authenticated(context: grpc.aio.ServicerContext[object, object]) -> Call:
    """The call with its caller, for use cases. Raises CallRefused if no interceptor vouched for a caller."""
    rpc = current()
    if rpc.caller is None or rpc.record is None:
        raise CallRefused(Reason.TOKEN_MISSING)
    remaining = context.time_remaining()
    return Call(
        caller=rpc.caller,
        request_id=rpc.request_id,
        arrived=rpc.arrived,
        deadline=None if remaining is None else time.monotonic() + remaining,
        record=rpc.record,
        trace=rpc.trace,
    )
