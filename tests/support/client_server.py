"""A gRPC server of the API's services that does what a test scripts, over loopback."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from sluicegate.v1 import (
    access_service_pb2,
    engine_service_pb2,
    finding_service_pb2,
    generation_pb2,
    generation_service_pb2,
    model_service_pb2,
    provenance_service_pb2,
    release_service_pb2,
    withdrawal_service_pb2,
)

LONG_SECONDS = 20.0
"""How long a held call waits for its end: longer than any test that works."""

Expected = TypeVar("Expected", bound=Message)
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A status with the details that Sluicegate sends."""

    code: grpc.StatusCode
    reason: str | None = None
    text: str = "refused"
    metadata: dict[str, str] = field(default_factory=dict)
    violations: Sequence[tuple[str, str]] = ()
    retry_after: float | None = None
    pushback_ms: str | None = None
    request_id: str | None = None
    usage: tuple[int, int] | None = None

    def trailers(self) -> Metadata:
        """Its trailing metadata."""
        details: list[Message] = []
        if self.reason is not None:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="sluicegate", metadata=self.metadata))
        if self.violations:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=path, description=rule)
                        for path, rule in self.violations
                    ]
                )
            )
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(round(self.retry_after * 1e9))
            details.append(retry)
        if self.request_id is not None:
            details.append(error_details_pb2.RequestInfo(request_id=self.request_id))
        pairs: list[tuple[str, str | bytes]] = []
        if details:
            status = status_pb2.Status(code=self.code.value[0], message=self.text, details=map(packed, details))
            pairs.append(("grpc-status-details-bin", status.SerializeToString()))
        if self.pushback_ms is not None:
            pairs.append(("grpc-retry-pushback-ms", self.pushback_ms))
        if self.usage is not None:
            usage = generation_pb2.Usage(prompt_tokens=self.usage[0], output_tokens=self.usage[1])
            pairs.append(("sluicegate-usage-bin", usage.SerializeToString()))
        return tuple(pairs)


@dataclass(frozen=True, slots=True)
class Hold:
    """Say nothing more until the client has ended the call."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Say nothing until the test sets `over`, then go on."""

    over: threading.Event = field(default_factory=threading.Event)


Step = Message | Refusal | Hold | Pause


@dataclass(slots=True)
class Call:
    """One call that the server got."""

    method: str
    request: Message
    metadata: dict[str, str | bytes]
    over: threading.Event = field(default_factory=threading.Event)

    def asked(self, kind: type[Expected]) -> Expected:
        """The request, as the type it must be of."""
        assert isinstance(self.request, kind)
        return self.request

    def wait_for_end(self) -> bool:
        """Whether the call has ended, also by the client."""
        return self.over.wait(LONG_SECONDS)


class FakeServer:
    """`script[method]` holds what each call in turn does; the last entry is for all that follow.

    `health` is what its health says: SERVING of "" until a test sets it, and of other services nothing.
    """

    def __init__(self) -> None:
        self.health = HealthServicer()
        self.script: dict[str, list[Sequence[Step]]] = {}
        self.calls: list[Call] = []
        self.target = ""
        self._turns: defaultdict[str, int] = defaultdict(int)
        self._changed = threading.Condition()

    def will(self, method: str, *attempts: Sequence[Step]) -> None:
        """Script a method: one sequence of steps for each call."""
        self.script[method] = list(attempts)

    def wait_for_calls(self, count: int) -> list[Call]:
        """All calls so far, once there are this many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= count, LONG_SECONDS)
            return list(self.calls)

    def handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        """A handler for each service of the API."""
        for file in (
            generation_service_pb2,
            model_service_pb2,
            access_service_pb2,
            provenance_service_pb2,
            release_service_pb2,
            withdrawal_service_pb2,
            finding_service_pb2,
            engine_service_pb2,
        ):
            for service in file.DESCRIPTOR.services_by_name.values():
                methods = {}
                for method in service.methods:
                    make = (
                        grpc.unary_stream_rpc_method_handler
                        if method.server_streaming
                        else grpc.unary_unary_rpc_method_handler
                    )
                    methods[method.name] = make(
                        (self._stream if method.server_streaming else self._unary)(method.name),
                        request_deserializer=GetMessageClass(method.input_type).FromString,
                        response_serializer=GetMessageClass(method.output_type).SerializeToString,
                    )
                yield grpc.method_handlers_generic_handler(service.full_name, methods)

    def _begin(self, method: str, request: Message, context: grpc.ServicerContext) -> tuple[Call, Sequence[Step]]:
        call = Call(method, request, {str(key): value for key, value in context.invocation_metadata()})
        if not context.add_callback(call.over.set):
            call.over.set()
        with self._changed:
            attempts = self.script[method]
            steps = attempts[min(self._turns[method], len(attempts) - 1)]
            self._turns[method] += 1
            self.calls.append(call)
            self._changed.notify_all()
        return call, steps

    def _stream(self, method: str) -> Callable[[Message, grpc.ServicerContext], Iterator[Message]]:
        def play(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            call, steps = self._begin(method, request, context)
            for step in steps:
                match step:
                    case Refusal():
                        refuse(context, step)
                    case Hold():
                        call.wait_for_end()
                        return
                    case Pause():
                        step.over.wait(LONG_SECONDS)
                    case _:
                        yield step

        return play

    def _unary(self, method: str) -> Callable[[Message, grpc.ServicerContext], Message]:
        stream = self._stream(method)

        def play(request: Message, context: grpc.ServicerContext) -> Message:
            for message in stream(request, context):
                return message
            refuse(context, Refusal(code=grpc.StatusCode.CANCELLED))

        return play


def refuse(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    """End the call with the refusal."""
    context.set_trailing_metadata(refusal.trailers())
    context.abort(refusal.code, refusal.text)
    raise AssertionError("abort raises")


def packed(detail: Message) -> any_pb2.Any:
    """A detail as a status carries it."""
    holder = any_pb2.Any()
    holder.Pack(detail)
    return holder


@contextmanager
def serving(credentials: grpc.ServerCredentials | None = None, *, at_once: int = 32) -> Iterator[FakeServer]:
    """A server on a free port of the loopback interface, for so many calls at once."""
    fake = FakeServer()
    with ThreadPoolExecutor(max_workers=at_once) as workers:
        server = grpc.server(workers, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(tuple(fake.handlers()))
        add_HealthServicer_to_server(fake.health, server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        fake.target = f"127.0.0.1:{port}"
        server.start()
        try:
            yield fake
        finally:
            server.stop(grace=None).wait()


def started(**members: object) -> generation_service_pb2.StreamGenerateResponse:
    """The first message of a stream."""
    return generation_service_pb2.StreamGenerateResponse(started=started_message(**members), usage=counted(0))


def started_message(**members: object) -> generation_pb2.Started:
    """What a call runs under."""
    values: dict[str, object] = {
        "request_id": "0192-request",
        "model": "gpt2-124m",
        "stage": "s1",
        "prompt_tokens": 3,
        "seed": 7,
        "max_output_tokens": 16,
    }
    return generation_pb2.Started(**(values | members))  # type: ignore[arg-type]


def counted(output_tokens: int) -> generation_pb2.Usage:
    """The usage of a prompt of three tokens."""
    return generation_pb2.Usage(prompt_tokens=3, output_tokens=output_tokens)


def delta(
    text: str, candidate: int = 0, output_tokens: int = 1, tokens: Sequence[generation_pb2.Token] = ()
) -> generation_service_pb2.StreamGenerateResponse:
    """More text, with what is counted by now."""
    return generation_service_pb2.StreamGenerateResponse(
        delta=generation_pb2.Delta(candidate=candidate, text=text, tokens=tokens),
        usage=counted(output_tokens),
    )


def finished(
    candidate: int = 0,
    reason: generation_pb2.FinishReason.ValueType = generation_pb2.FINISH_REASON_STOP,
    output_tokens: int = 2,
) -> generation_service_pb2.StreamGenerateResponse:
    """The end of a candidate."""
    return generation_service_pb2.StreamGenerateResponse(
        finished=generation_pb2.Finished(candidate=candidate, finish_reason=reason, output_tokens=output_tokens),
        usage=counted(output_tokens),
    )


def generated(*texts: str) -> generation_service_pb2.GenerateResponse:
    """A whole generation with a candidate for each text."""
    return generation_service_pb2.GenerateResponse(
        started=started_message(),
        candidates=[
            generation_pb2.Candidate(
                text=text,
                finished=generation_pb2.Finished(
                    candidate=number, finish_reason=generation_pb2.FINISH_REASON_MAX_OUTPUT_TOKENS, output_tokens=2
                ),
            )
            for number, text in enumerate(texts)
        ],
        usage=counted(2 * len(texts)),
    )
