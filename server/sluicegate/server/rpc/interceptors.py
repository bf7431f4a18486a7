"""What happens around every call, outermost first: Errors, Calls, PeerLimit, Authentication.

Each is an async context manager around the handler, so an exception passes through all of them on its way out, in
mid-stream too. Only Errors turns exceptions into statuses.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import StatusCode

from sluicegate.auth import Policy, Reason
from sluicegate.server.auditing import Auditing
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.limiters import DenialLimiter, PeerLimiter
from sluicegate.server.observe.access import NO_REASON
from sluicegate.server.observe.labels import OTHER
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.tracing import CallEnd, NoTracing, Phase, Tracing
from sluicegate.server.rpc import call as rpc_call
from sluicegate.server.rpc.authenticator import Authenticator
from sluicegate.server.rpc.methods import EXEMPT_SERVICES
from sluicegate.server.rpc.peer import Peers, connection_address
from sluicegate.server.rpc.status import USAGE_TRAILER, public_text, status_code, trailers
from sluicegate.v1 import generation_pb2

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its type stubs only
Around = Callable[[Context], AbstractAsyncContextManager[None]]
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class Wrapping(grpc.aio.ServerInterceptor):
    """Puts an async context manager, made from the method's path, around every handler."""

    def __init__(self, around: Callable[[str], Around]) -> None:
        self._around = around

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:
            # Found out by the innermost, and the outer ones tell it: nobody has to be known to call what is not there.
            return grpc.unary_unary_rpc_method_handler(_unknown_method)
        return _wrapped(handler, self._around(handler_call_details.method))


async def _unknown_method(_request: bytes, _context: Context) -> bytes:
    raise CallRefused(Reason.METHOD_UNKNOWN)


def _wrapped(handler: Handler, around: Around) -> Handler:
    """The handler with `around` about it, of the same cardinality and style, as grpc.aio demands.

    The innermost takes over the reading of a single request: gRPC would do it before anyone is asked who calls, and
    answer bytes that are no message with an exception's text.
    """
    kind = (
        ("stream" if handler.request_streaming else "unary")
        + "_"
        + ("stream" if handler.response_streaming else "unary")
    )
    inner = getattr(handler, kind)
    deserialize = handler.request_deserializer
    read = _as_it_is if handler.request_streaming or deserialize is None else _reading(deserialize)
    if inspect.isasyncgenfunction(inner):

        async def behaviour(request: Any, context: Context) -> AsyncIterator[Any]:
            # Closed here: left to the garbage collector, it would be counted and logged in some other call's context.
            async with around(context), aclosing(inner(read(request), context)) as responses:
                async for response in responses:
                    yield response
    else:

        async def behaviour(request: Any, context: Context) -> Any:  # type: ignore[misc]
            async with around(context):
                return await inner(read(request), context)

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    wrapped: Handler = make(
        behaviour,
        request_deserializer=deserialize if handler.request_streaming else None,
        response_serializer=handler.response_serializer,
    )
    return wrapped


def _as_it_is(request: Any) -> Any:
    return request


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(request: bytes) -> Any:
        try:
            return deserialize(request)
        except DecodeError:
            rule = "the request is no message of this method"
            raise CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation("", rule)]) from None

    return read


def errors() -> Wrapping:
    """The only place where exceptions become statuses."""

    def around(path: str) -> Around:
        service, _, method = path.removeprefix("/").rpartition("/")

        @asynccontextmanager
        async def translate(context: Context) -> AsyncIterator[None]:
            call = rpc_call.RpcCall(service, method)
            rpc_call.begin(call)
            try:
                yield
            except CallRefused as refused:
                await _abort(context, call, refused)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                log.exception("call_failed", request_id=call.request_id, method=path, error=type(error).__name__)
                await _abort(context, call, CallRefused(Reason.INTERNAL))
            else:
                _set_trailers(context, call)

        return translate

    return Wrapping(around)


async def _abort(context: Context, call: rpc_call.RpcCall, refused: CallRefused) -> None:
    await call.headers_left()
    if call.answers_whole and call.usage is not None and call.usage.output_tokens:
        # A status without headers before it is retried by gRPC and by proxies where its code allows it (gRFC A6): this
        # call's tokens are charged, and would be again.
        with suppress(grpc.aio.InternalError):  # the caller is gone
            await context.send_initial_metadata(())
    await context.abort(
        status_code(refused.reason),
        public_text(refused.reason),
        (*trailers(refused, call.request_id), *_usage_trailer(call)),
    )


def _set_trailers(context: Context, call: rpc_call.RpcCall) -> None:
    if call.usage is not None:
        context.set_trailing_metadata(_usage_trailer(call))


def _usage_trailer(call: rpc_call.RpcCall) -> tuple[tuple[str, bytes], ...]:
    if call.usage is None:
        return ()
    usage = generation_pb2.Usage(prompt_tokens=call.usage.prompt_tokens, output_tokens=call.usage.output_tokens)
    return ((USAGE_TRAILER, usage.SerializeToString()),)


def calls(metrics: Metrics, paths: frozenset[str], auditing: Auditing, tracing: Tracing | None = None) -> Wrapping:
    """Counts RPCs by method and code, and denials; tells the audit log of their ends, and writes one log line for each.

    Outermost of those that tell of a call, it also begins its trace and ends it. `paths` are the methods that exist.
    """
    tracer = tracing or NoTracing()

    def around(path: str) -> Around:
        service, _, method = path.removeprefix("/").rpartition("/")
        labels = (service, method) if path in paths else (OTHER, OTHER)
        is_traced = path in paths and service not in EXEMPT_SERVICES

        @asynccontextmanager
        async def count(context: Context) -> AsyncIterator[None]:
            call = rpc_call.current()
            metrics.rpcs.started.labels(*labels).inc()
            if is_traced:
                traceparent = functools.partial(_traceparent, context)
                call.trace = tracer.begin(service, method, call.request_id, call.arrived, traceparent)
            code, reason = StatusCode.OK, NO_REASON
            try:
                yield
            except CallRefused as refused:
                code, reason = status_code(refused.reason), refused.reason.value
                if not call.has_begun:
                    metrics.access.take_denial(refused.reason, _partner(metrics, auditing.policy(), call.caller))
                if call.record is None:
                    auditing.count_denial(refused.reason)
                else:
                    call.record.refused(code.name, refused.reason)
                raise
            except (asyncio.CancelledError, GeneratorExit):  # the latter: cancelled while a message of a stream left
                code = StatusCode.CANCELLED
                raise
            except grpc.aio.AbortError:
                code = context.code() or StatusCode.UNKNOWN
                raise
            except Exception:
                code, reason = StatusCode.INTERNAL, Reason.INTERNAL.value
                raise
            finally:
                if call.record is not None:
                    call.record.close(code.name, None if reason == NO_REASON else Reason(reason), call.usage)
                metrics.rpcs.handled.labels(*labels, code.name).inc()
                if call.trace.is_recording:
                    call.trace.finish(_end(call, code, reason))
                # A network that calls too often could fill a disk with lines; the metrics have its number.
                if service not in EXEMPT_SERVICES and reason != Reason.PEER_RATE_LIMIT:
                    log.info(
                        "call",
                        request_id=call.request_id,
                        method="/".join(labels),
                        code=code.name,
                        reason=reason,
                        seconds=round(_elapsed(call), 6),
                        prompt_tokens=call.usage.prompt_tokens if call.usage else None,
                        output_tokens=call.usage.output_tokens if call.usage else None,
                    )

        return count

    return Wrapping(around)


def _partner(metrics: Metrics, policy: Policy, caller: Caller | None) -> str:
    """The partner label of a refused call: by its client, or `other` where nothing is believed of the caller."""
    return OTHER if caller is None else metrics.partner(policy.partner_of(caller.principal))


def _traceparent(context: Context) -> str | None:
    """The caller's W3C trace context, if it sent exactly one."""
    values = [value for key, value in context.invocation_metadata() or () if key == "traceparent"]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else None


def _end(call: rpc_call.RpcCall, code: StatusCode, reason: str) -> CallEnd:
    usage = call.usage
    return CallEnd(
        code=code.name,
        code_number=code.value[0],
        reason=None if reason == NO_REASON else reason,
        prompt_tokens=usage.prompt_tokens if usage is not None else None,
        cached_tokens=usage.cached_tokens if usage is not None else None,
        output_tokens=usage.output_tokens if usage is not None else None,
        finishes=[each.name.lower() for each in call.record.finishes] if call.record is not None else (),
    )


def _elapsed(call: rpc_call.RpcCall) -> float:
    return asyncio.get_running_loop().time() - call.arrived


def peer_limit(peers: Peers, limiter: PeerLimiter, metrics: Metrics) -> Wrapping:
    """Row 1, for every call whatever its method, before anything in it is looked at.

    What a trusted proxy says of nobody counts on the proxy's own network.
    """

    def around(_path: str) -> Around:
        @asynccontextmanager
        async def limit(context: Context) -> AsyncIterator[None]:
            try:
                limiter.admit(peers.of(context).address or connection_address(context))
            except CallRefused as refused:
                metrics.access.decisions.labels("denied", refused.reason.value, OTHER).inc()
                raise
            yield

        return limit

    return Wrapping(around)


def authentication(
    authenticator: Authenticator,
    limiter: DenialLimiter,
    scopes: Mapping[str, str],
    metrics: Metrics,
    auditing: Auditing,
) -> Wrapping:
    """Rows 2 to 10, and 12 for methods about no model: sets the caller of every call but the exempt ones.

    A method that declares no scope is refused.
    """

    def around(path: str) -> Around:
        service, _, method = path.removeprefix("/").rpartition("/")
        exempt = service in EXEMPT_SERVICES

        @asynccontextmanager
        async def authenticate(context: Context) -> AsyncIterator[None]:
            if not exempt and path in scopes:
                trace = rpc_call.current().trace
                trace.begin(Phase.AUTHENTICATE)
                try:
                    caller = authenticator.identify(context)
                    limiter.admit(caller)
                    trace.end()
                except CallRefused as refused:
                    metrics.access.decisions.labels("denied", refused.reason.value, OTHER).inc()
                    raise
                call = rpc_call.current()
                if trace.is_recording:
                    policy = auditing.policy()
                    trace.describe(
                        partner=_partner(metrics, policy, caller), audience=policy.audience_of(caller.principal).value
                    )
                call.caller, call.record = caller, auditing.record(caller, call.request_id, method, call.arrived)
                with _counting_denials(limiter, caller):
                    try:
                        authenticator.check_scope(caller, scopes[path])
                    except CallRefused as refused:
                        metrics.access.decisions.labels("denied", refused.reason.value, OTHER).inc()
                        raise
                    yield
                return
            if not exempt:
                raise CallRefused(Reason.METHOD_SCOPE_MISSING)
            yield

        return authenticate

    return Wrapping(around)


@contextmanager
def _counting_denials(limiter: DenialLimiter, caller: Caller) -> Iterator[None]:
    """Count it if the caller is refused before the call has begun, or told that a call would be."""
    call = rpc_call.current()
    try:
        yield
    except CallRefused as refused:
        if call.usage is None:
            limiter.count(caller, refused.reason)
        raise
    if call.denied is not None:
        limiter.count(caller, call.denied)
