"""The call in progress, as the interceptors know it and the servicers read it."""

from __future__ import annotations

import asyncio
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
    usage, `denied` where the answer is that a call would be, `answers_whole` where what has usage sends nothing before
    its end, and `first_write` before a stream's first message leaves.
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
    answers_whole: bool = False
    first_write: asyncio.Task[None] | None = None
    trace: CallTrace = NO_TRACE

    @property
    def has_begun(self) -> bool:
        """Whether it was served so far: what ends it then refuses nothing."""
        return self.usage is not None or self.has_answered

    async def headers_left(self) -> None:
        """Wait until the first message of a stream, and the headers before it, are written or have failed.

        Only then may a status be sent: grpc.aio (1.85, `_ServicerContext.write`) notes that it has sent the headers
        when the first write is done. With a status before that it would send them again, which gRPC's core refuses as
        TOO_MANY_OPERATIONS; the status would be lost, and the client left waiting for its deadline.
        """
        if self.first_write is not None:
            await asyncio.gather(self.first_write, return_exceptions=True)


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
