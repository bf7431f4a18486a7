"""One call at a time: token, deadline, and the translation of every way in which it can end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from sluicegate.client.channel import MAX_REQUEST_BYTES
from sluicegate.client.errors import (
    AuthenticationFailed,
    Cancelled,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
)
from sluicegate.client.status import call_error
from sluicegate.client.tokens import TokenSource

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")

_MAX_TIMEOUT_SECONDS = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time by which a call must be over; None: never."""

    at: float | None

    @classmethod
    def after(cls, timeout_seconds: float | None) -> Deadline:
        """The deadline this far from now. Raises ConfigurationError for what is no span of time."""
        if timeout_seconds is None or timeout_seconds == math.inf:
            return cls(None)
        if not 0 < timeout_seconds <= _MAX_TIMEOUT_SECONDS:
            raise ConfigurationError(f"timeout is {timeout_seconds}: it must be a positive number of seconds")
        return cls(time.monotonic() + timeout_seconds)

    def remaining_seconds(self) -> float | None:
        """What is left, never below 0."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())


class Caller:
    """Makes calls with the token of one source, or with none."""

    def __init__(self, tokens: TokenSource | None) -> None:
        self._tokens = tokens

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        deadline: Deadline,
    ) -> Response:
        """The response. Raises CallError and TokenUnavailable."""
        _require_room(request)
        token = await self.token(deadline)
        with self.translated(token):
            return await method(request, timeout=deadline.remaining_seconds(), metadata=metadata(token))

    async def token(self, deadline: Deadline) -> str | None:
        """The token to send, in the time that the call has; None without a source."""
        if self._tokens is None:
            return None
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                return await self._tokens.token()
        except TimeoutError as late:
            raise DeadlineExceeded(
                "the time was over before there was a token", code=grpc.StatusCode.DEADLINE_EXCEEDED
            ) from late

    @contextmanager
    def translated(self, token: str | None) -> Iterator[None]:
        """Turn gRPC's ends into ours. The running task's own cancellation passes through."""
        try:
            yield
        except grpc.aio.AioRpcError as ended:
            trailers = ended.trailing_metadata() or ()
            error = call_error(ended.code(), ended.details(), [(name, value) for name, value in trailers])
            if isinstance(error, AuthenticationFailed) and token is not None and self._tokens is not None:
                self._tokens.forget(token)
            raise error from ended
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise cancelled() from None


def metadata(token: str | None) -> grpc.aio.Metadata:
    """The call's metadata."""
    return grpc.aio.Metadata() if token is None else grpc.aio.Metadata(("authorization", f"Bearer {token}"))


def cancelled() -> Cancelled:
    """The error of a call that this side ended."""
    return Cancelled("the call was cancelled", code=grpc.StatusCode.CANCELLED)


def _require_room(request: Message) -> None:
    """Refuse what gRPC would not send: its own status for that reads like a quota of the server."""
    if request.ByteSize() > MAX_REQUEST_BYTES:
        raise InvalidRequest(
            f"the request has {request.ByteSize()} bytes; at most {MAX_REQUEST_BYTES} bytes can be sent",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        )


class Reading(Generic[Request, Response]):
    """A server stream that is opened by its first read. Used by one task at a time."""

    def __init__(
        self,
        caller: Caller,
        method: Callable[[], grpc.aio.UnaryStreamMultiCallable[Request, Response]],
        request: Request,
        deadline: Deadline,
    ) -> None:
        self._caller = caller
        self._method = method
        self._request = request
        self._deadline = deadline
        self._token: str | None = None
        self._call: grpc.aio.UnaryStreamCall[Request, Response] | None = None
        self._is_over = False
        self._is_cancelled = False

    async def read(self) -> Response | None:
        """The next message; None at the end and ever after. Raises CallError and TokenUnavailable."""
        if self._is_cancelled:
            raise cancelled()
        if self._is_over:
            return None
        try:
            if self._call is None:
                _require_room(self._request)
                self._token = await self._caller.token(self._deadline)
                if self._is_cancelled:
                    raise cancelled()
                timeout = self._deadline.remaining_seconds()
                self._call = self._method()(self._request, timeout=timeout, metadata=metadata(self._token))
            with self._caller.translated(self._token):
                message = await self._call.read()
        except BaseException:
            self.close()
            raise
        if message is grpc.aio.EOF:
            self._is_over = True
            return None
        return cast("Response", message)

    def cancel(self) -> None:
        """End the call; what is read from now on is Cancelled. Nothing if the call is over."""
        self._is_cancelled = self._is_cancelled or not self._is_over
        self.close()

    def close(self) -> None:
        """Be done with the call, whatever its state."""
        self._is_over = True
        if self._call is not None:
            self._call.cancel()
